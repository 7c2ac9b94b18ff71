"""Greedy answers to the demonstrations' prompts, and whether they are healthy.

Perplexity degrades smoothly while generation breaks: models that lost too much answer nothing, do
not come to an end, or say the same again and again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from easyep.artifacts import TokenSequence
from easyep.comparing.estimates import Mean, clustered_mean
from easyep.demonstrations.in_process import end_tokens
from easyep.progress import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# An answer ends in a loop if its last tokens are one passage at least so many times, and if these
# are at least so many tokens.
REPEATS, LOOP_TOKENS = 4, 16


@dataclass(frozen=True)
class Answer:
    """What a model generated.

    Attributes:
        ids: the tokens, without the one that ends it.
        finished: whether the model ended it; else it ran into the limit.
        empty: whether it says nothing but white space.
    """

    ids: tuple[int, ...]
    finished: bool
    empty: bool

    @property
    def loops(self) -> bool:
        """Whether it ends in a loop."""
        return ends_in_a_loop(self.ids)


@dataclass(frozen=True)
class Health:
    """The answers of one model.

    Attributes:
        answers: how many.
        empty, truncated, looping: shares of them; one answer can be more than one of it.
        length: mean number of tokens.
    """

    answers: int
    empty: float
    truncated: float
    looping: float
    length: Mean


def prompt_of(sequence: TokenSequence) -> list[int] | None:
    """The tokens before the last response; None where there is none, or nothing before it."""
    starts = np.flatnonzero(np.diff(sequence.is_response.astype(np.int8), prepend=0) == 1)
    if not len(starts) or not starts[-1]:
        return None
    prompt: list[int] = sequence.input_ids[: starts[-1]].tolist()
    return prompt


def ends_in_a_loop(ids: Sequence[int]) -> bool:
    """Whether the last tokens are one passage REPEATS times or more, LOOP_TOKENS at least."""
    tokens = np.asarray(ids)
    for period in range(1, len(tokens) // REPEATS + 1):
        length = period * max(REPEATS, -(-LOOP_TOKENS // period))
        if length > len(tokens):
            continue
        tail = tokens[-length:]
        if (tail[period:] == tail[:-period]).all():
            return True
    return False


def health(answers: Sequence[Answer]) -> Health:
    """What a model's answers are like."""
    count = len(answers)
    return Health(
        answers=count,
        empty=sum(answer.empty for answer in answers) / count,
        truncated=sum(not answer.finished for answer in answers) / count,
        looping=sum(answer.loops for answer in answers) / count,
        length=clustered_mean([np.array([float(len(answer.ids))]) for answer in answers]),
    )


def generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    done: Task,
) -> list[Answer]:
    """Answer the prompts, each time with the likeliest token.

    Args:
        model: it runs them padded on the left.
        tokenizer: tells what is white space.
        prompts: token ids.
        max_new_tokens: where an answer is cut.
        batch_size: prompts at a time.
        done: advanced by one for each answer.
    """
    import torch

    ends = end_tokens(model, tokenizer)
    pad: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    greedy: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    answers: list[Answer] = []
    for start in range(0, len(prompts), batch_size):
        rows = prompts[start : start + batch_size]
        width = max(map(len, rows))
        ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            made = model.generate(
                ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                pad_token_id=pad,
                eos_token_id=sorted(ends) or None,
                **greedy,
            )[:, width:].tolist()
        for row in made:
            end = next((i for i, token in enumerate(row) if token in ends), None)
            said = tuple(row[:end])
            text = tokenizer.decode(list(said), skip_special_tokens=True)
            answers.append(Answer(said, end is not None, not text.strip()))
        done.advance(len(rows))
    return answers
