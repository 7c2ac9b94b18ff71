"""The training stream: which items one process sees in one step, packed into rows.

Step and process number decide a batch alone (through the seed), so a run that goes on from a
checkpoint sees exactly the text that it would have seen. Several items of one domain share a row,
but attention and positions are cut at their borders: every item is seen alone, as in evaluation.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from easyep.demo_model.domains import DOMAINS, stories
from easyep.demo_model.items import draw
from easyep.demo_model.tokenizer import ASSISTANT, BEGIN, END, PAD, SPECIAL_TOKENS, USER

ROW_LENGTH = 128
STORIES = "stories"
#: Rows of one batch per text. Easy domains get fewer, background text 2 of 24.
ROWS: Mapping[str, int] = {
    "math": 4,
    "code": 3,
    "facts": 4,
    "strings": 4,
    "lexicon": 4,
    "tools": 3,
    STORIES: 2,
}
QUESTION_WEIGHT, ANSWER_WEIGHT, TEXT_WEIGHT = 0.2, 1.0, 0.5
#: A row is full when this many items in a row did not fit.
PATIENCE = 6


@dataclass(frozen=True)
class Piece:
    """One item as tokens: ids and, for each, the weight of the loss of predicting it."""

    ids: list[int]
    weights: list[float]


@dataclass(frozen=True)
class Batch:
    """R rows of T tokens; all tensors are [R, T]."""

    ids: torch.Tensor
    """int64, pad where nothing is left."""
    segments: torch.Tensor
    """int64, the number of the item in its row, -1 on padding."""
    positions: torch.Tensor
    """int64, counted from the start of the item."""
    weights: torch.Tensor
    """float32, the weight of predicting this token."""
    texts: list[str]
    """The domain of each row."""

    def to(self, device: torch.device) -> Batch:
        """The same batch there."""
        return Batch(
            self.ids.to(device),
            self.segments.to(device),
            self.positions.to(device),
            self.weights.to(device),
            self.texts,
        )


def join(parts: Sequence[Batch]) -> Batch:
    """The rows of several batches."""
    return Batch(
        torch.cat([part.ids for part in parts]),
        torch.cat([part.segments for part in parts]),
        torch.cat([part.positions for part in parts]),
        torch.cat([part.weights for part in parts]),
        [name for part in parts for name in part.texts],
    )


def texts(seed: int, process: int, step: int, name: str) -> Iterator[tuple[str, str]]:
    """Endless (prompt, response) of a domain for one batch; stories have an empty prompt."""
    rng = random.Random(f"{seed} {process} {step} {name}")
    if name == STORIES:
        while True:
            yield "", stories.sample(rng)
    for item in draw(DOMAINS[name], rng, "train"):
        yield item.prompt, item.response


def piece(tokenizer: Tokenizer, prompt: str, response: str, with_begin: bool = True) -> Piece:
    """Tokens as the chat template renders them; without a prompt, plain text."""
    begin, end, user, assistant = map(SPECIAL_TOKENS.index, (BEGIN, END, USER, ASSISTANT))
    answer = tokenizer.encode(response, add_special_tokens=False).ids
    if not prompt:
        ids = ([begin] if with_begin else []) + answer + [end]
        return Piece(ids[:ROW_LENGTH], [TEXT_WEIGHT] * min(len(ids), ROW_LENGTH))
    question = tokenizer.encode(prompt, add_special_tokens=False).ids
    ids = [begin, user, *question, assistant, *answer, end]
    weights = [QUESTION_WEIGHT] * (len(question) + 3) + [ANSWER_WEIGHT] * (len(answer) + 1)
    return Piece(ids, weights)


def _rows(pieces: Iterator[Piece], count: int) -> list[list[Piece]]:
    """First fit: each piece goes to the first row with room, until several in a row find none."""
    rows: list[list[Piece]] = [[] for _ in range(count)]
    room = [ROW_LENGTH] * count
    misses = 0
    for candidate in pieces:
        size = len(candidate.ids)
        fitting = next((i for i in range(count) if room[i] >= size), None)
        if fitting is None:
            misses += 1
            if misses == PATIENCE:
                break
            continue
        misses = 0
        rows[fitting].append(candidate)
        room[fitting] -= size
    return rows


def batch(tokenizer: Tokenizer, seed: int, process: int, step: int) -> Batch:
    """The batch of one process in one step."""
    rows: list[list[Piece]] = []
    names: list[str] = []
    for name, count in ROWS.items():
        # Half of the stories come without the begin token: as bare text is tokenized.
        pieces = (
            piece(tokenizer, prompt, response, with_begin=number % 2 == 0)
            for number, (prompt, response) in enumerate(texts(seed, process, step, name))
        )
        rows += _rows(pieces, count)
        names += [name] * count
    shape = (len(rows), ROW_LENGTH)
    ids = torch.full(shape, SPECIAL_TOKENS.index(PAD), dtype=torch.int64)
    segments = torch.full(shape, -1, dtype=torch.int64)
    positions = torch.zeros(shape, dtype=torch.int64)
    weights = torch.zeros(shape)
    for r, row in enumerate(rows):
        ends = list(itertools.accumulate(len(p.ids) for p in row))
        for s, (p, end) in enumerate(zip(row, ends, strict=True)):
            span = slice(end - len(p.ids), end)
            ids[r, span] = torch.tensor(p.ids)
            segments[r, span] = s
            positions[r, span] = torch.arange(len(p.ids))
            weights[r, span] = torch.tensor(p.weights)
    return Batch(ids, segments, positions, weights, names)


def attention_mask(segments: torch.Tensor) -> torch.Tensor:
    """Additive mask [R, 1, T, T]: causal, and only within an item. Padding sees itself."""
    length, device = segments.shape[1], segments.device
    same = segments[:, :, None] == segments[:, None, :]
    real = (segments >= 0)[:, :, None] & (segments >= 0)[:, None, :]
    itself = torch.eye(length, dtype=torch.bool, device=device)
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    allowed = (same & real & causal) | itself
    zeros = torch.zeros(allowed.shape, device=device)
    mask = zeros.masked_fill(~allowed, torch.finfo(torch.float32).min)
    return mask[:, None]
