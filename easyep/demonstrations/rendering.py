"""Demonstrations -> token sequences, through the model's own tokenizer and chat template."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from easyep.allocation_limit import allocation_limit
from easyep.artifacts import Demo, TokenSequence
from easyep.demonstrations import conversation
from easyep.demonstrations.conversation import Style
from easyep.errors import DemosError, first_line
from easyep.panics import panics_as_errors
from easyep.time_limit import within

DemoOrder = Literal["random", "longest"]
DEMO_ORDERS: tuple[DemoOrder, ...] = ("random", "longest")
_OPEN_MARK = re.compile(r"<[^<>\s]*$")
# A template is code that comes with the model: it could go on forever. Others need milliseconds.
LONGEST_RENDERING = 60.0
# Tokenizers count in 32 bits.
_LARGEST_ID = 2**32 - 1


def render(
    demo: Demo, tokenizer: Any, max_length: int | None = None, style: Style = "auto"
) -> TokenSequence:
    """The tokens that the model reads for a demonstration.

    Messages go through the chat template; the response tokens are those of the assistant's turns,
    from the end of what the template puts before an answer. Some templates leave the thinking out
    of answers; of the last answer nothing is left out, since the model has written all of it. Tool
    calls are given as text to a template that knows no tools. A prompt and its response are joined
    as they are. Text that the template did not write gets the tokenizer's own special tokens.

    Args:
        demo: the demonstration.
        tokenizer: a transformers tokenizer.
        max_length: longer sequences lose their end; `TokenSequence.cut` says how much.
        style: ``"thinking"`` shows answers with their thinking, ``"plain"`` without it, ``"auto"``
            with it if the model's chat template knows thinking.

    Raises:
        DemosError: the tokenizer has no chat template, or it refuses the messages or comes to no
            end; the message says where the demonstration stood.
    """
    try:
        return _rendered(demo.content, tokenizer, max_length, style)
    except DemosError as error:
        raise DemosError(f"{demo.origin}: {error}" if demo.origin else str(error)) from error


def _rendered(
    content: Mapping[str, Any], tokenizer: Any, max_length: int | None, style: Style
) -> TokenSequence:
    if "input_ids" in content:
        if max(content["input_ids"], default=0) > _LARGEST_ID:
            raise DemosError("'input_ids' holds a number that is no token id")
        ids = np.array(content["input_ids"], dtype=np.int64)
        return _cut(ids, np.arange(len(ids)) >= content.get("response_start", len(ids)), max_length)
    if "messages" in content:
        try:
            with allocation_limit():
                text, spans = within(
                    LONGEST_RENDERING,
                    lambda: _apply_template(
                        tokenizer, content["messages"], content.get("tools") or (), style
                    ),
                )
        except (TimeoutError, MemoryError) as error:
            raise DemosError(f"the chat template comes to no end: {error}") from None
    elif "text" in content:
        text, spans = content["text"], []
    else:
        text = content["prompt"] + content["response"]
        spans = [(len(content["prompt"]), len(text))]
    ids, starts, ends = _tokenize(tokenizer, text, special="messages" not in content)
    is_response = np.zeros(len(ids), dtype=np.bool_)
    for start, end in spans:
        # Special tokens that the tokenizer adds have empty offsets and belong to nobody.
        is_response |= (starts >= start) & (ends <= end) & (ends > starts)
    return _cut(ids, is_response, max_length)


def choose(
    sequences: Sequence[TokenSequence],
    n_demos: int | None = 25,
    *,
    order: DemoOrder = "random",
    seed: int = 0,
    tokens: int | None = None,
) -> list[TokenSequence]:
    """At most `n_demos` of the sequences, in their original order.

    Args:
        n_demos: how many; None takes all.
        order: ``"random"`` draws them with `seed`; ``"longest"`` takes those with most tokens.
        tokens: how many in all; the first ones drawn are taken whole, the last one loses its end,
            which `TokenSequence.cut` counts.
    """
    if n_demos is not None and n_demos < 1:
        raise DemosError(f"the number of demonstrations must be at least 1, not {n_demos}")
    if order == "longest":
        ranked = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    else:
        ranked = np.random.default_rng(seed).permutation(len(sequences)).tolist()
    chosen = {i: sequences[i] for i in ranked[:n_demos]}
    if tokens is not None:
        left = tokens
        for i, sequence in list(chosen.items()):
            kept = min(len(sequence), left)
            left -= kept
            chosen[i] = TokenSequence(
                sequence.input_ids[:kept],
                sequence.is_response[:kept],
                cut=sequence.cut + len(sequence) - kept,
            )
    return [chosen[i] for i in sorted(chosen) if len(chosen[i])]


def _tokenize(tokenizer: Any, text: str, special: bool) -> tuple[Any, Any, Any]:
    """Token ids, and where in the text each begins and ends; int64 [T] each."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DemosError(f"the text is not valid Unicode: {error}") from None
    if not tokenizer.is_fast:
        raise DemosError(
            "the model's tokenizer cannot tell which text a token stands for (it is not a fast "
            "one); give input_ids and response_start"
        )
    # A chat template has written its own special tokens.
    try:
        with panics_as_errors():
            encoded = tokenizer(
                text,
                add_special_tokens=special,
                return_offsets_mapping=True,
                verbose=False,  # of more tokens than positions: what is too long is cut and counted
            )
    except MemoryError:
        raise
    except Exception as error:  # its settings are somebody else's: it raises what it likes
        raise DemosError(
            f"the model's tokenizer fails on this demonstration: {first_line(error)}"
        ) from error
    starts, ends = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2).T
    return np.array(encoded["input_ids"], dtype=np.int64), starts, ends


def _apply_template(
    tokenizer: Any, messages: Sequence[dict[str, Any]], tools: Sequence[Any], style: Style
) -> tuple[str, list[tuple[int, int]]]:
    """The rendered conversation, and the character ranges of the assistant's turns in it."""
    if not tokenizer.chat_template:
        raise DemosError(
            "the model's tokenizer has no chat template; give prompts and responses, or text"
        )
    thinking = conversation.thinks(style, str(tokenizer.chat_template))
    thought = conversation.last_thought(messages) if thinking else ""
    refusal: Exception | None = None
    for told, options in conversation.forms(messages, tools, thinking):
        try:
            text, spans = _spans(tokenizer, told, options)
        except (DemosError, TimeoutError, MemoryError):
            raise
        except Exception as error:  # templates raise what they like
            refusal = refusal or error
            continue
        if conversation.shows(text, told, options.get("tools", ())) and thought in text:
            return text, spans
    if refusal is not None:
        raise DemosError(f"the chat template refuses the messages: {first_line(refusal)}") from None
    raise DemosError(
        "the chat template leaves out tool calls or thinking of the messages in every form that "
        "easyep knows; give prompt and response"
    )


def _spans(
    tokenizer: Any, messages: Sequence[dict[str, Any]], options: Mapping[str, Any]
) -> tuple[str, list[tuple[int, int]]]:
    """One form of a conversation, rendered, with the ranges of the assistant's turns."""

    def rendered(count: int, **more: Any) -> str:
        text: str = tokenizer.apply_chat_template(
            list(messages[:count]), tokenize=False, **options, **more
        )
        return text

    whole = rendered(len(messages))
    prompts = {
        i: rendered(i, add_generation_prompt=True) if i else ""
        for i, message in enumerate(messages)
        if message["role"] == "assistant"
    }
    last = len(messages) - 1
    if last in prompts:
        whole = _as_asked(prompts[last], whole, messages[:last], options["enable_thinking"])
    spans = []
    for i, before in prompts.items():
        # What precedes the answer, as serving writes it. A template may render earlier
        # turns otherwise once later ones follow: the common beginning is what it kept.
        start = _answer_start(before, whole, messages[:i])
        alone = rendered(i + 1)
        turn = alone[_answer_start(before, alone, messages[:i]) :]
        spans.append((start, start + _turn_end(whole[start:], turn, messages[i])))
    if last in prompts and not messages[last].get("tool_calls"):
        return _with_whole_answer(whole, spans, messages[last].get("content"), prompts[last])
    return whole, spans


def _as_asked(before: str, whole: str, asked: Sequence[Mapping[str, Any]], thinking: bool) -> str:
    """The conversation with what serving writes before the last answer, where that differs.

    Once it is answered a template may write the question otherwise, or leave out the empty
    thinking with which it told the model not to think.
    """
    start, common = _answer_start(before, whole, asked), _common(before, whole)
    told = not thinking and common < len(before) and not before.rstrip().endswith("<think>")
    if start <= common and not told:
        return whole
    turn = whole[start:]
    return before + turn[_overlap(before, turn) :]


def _answer_start(before: str, whole: str, asked: Sequence[Mapping[str, Any]]) -> int:
    """Where in `whole` the answer begins that follows the messages `asked`.

    Args:
        before: what serving writes before the answer.
        whole: a conversation that has it.
    """
    start = _common(before, whole)
    if start < len(before) and (mark := _OPEN_MARK.search(before[:start])):
        start = mark.start()  # <think> and </think> have no beginning in common
    question = str(asked[-1].get("content") or "").strip() if asked else ""
    for form in conversation.written(question) if question else ():
        there = before.rfind(form) + len(form)
        if form in before and form in whole and start < there:
            # The two differ before the question already, such as by a system prompt that moves
            # to the last one. What closes the question is the same.
            pieces = whole.split(form)[: before.count(form)]
            here = len(form.join(pieces)) + len(form)
            return here + _common(before[there:], whole[here:])
    return start


def _turn_end(rest: str, turn: str, message: Mapping[str, Any]) -> int:
    """Where a turn ends in the text that begins with it.

    Args:
        rest: the rendered conversation from the turn on.
        turn: the same turn, rendered as the last one, perhaps with thinking that `rest` lacks.
        message: what was rendered.
    """
    if rest.startswith(turn):
        return len(turn)
    thought = str(message.get("reasoning_content") or "").strip()
    end, closing = 0, turn.find(thought) + len(thought) if thought in turn else 0
    for forms in conversation.pieces(message):
        for form in forms:
            here, there = rest.find(form, end), turn.find(form, closing)
            if here >= 0 and there >= 0:
                end, closing = here + len(form), there + len(form)
                break
    return end + _common(turn[closing:], rest[end:])


def _with_whole_answer(
    whole: str, spans: list[tuple[int, int]], answer: Any, before: str
) -> tuple[str, list[tuple[int, int]]]:
    """The conversation with its last answer as the model wrote it, thinking included.

    Args:
        whole: the rendered conversation.
        spans: the character ranges of the assistant's turns in it.
        answer: the content of the last message.
        before: what serving writes before that answer.
    """
    if not isinstance(answer, str):
        return whole, spans
    turn = whole[spans[-1][0] :]
    opening = turn[: turn.find(answer.strip())] if answer.strip() in turn else None
    # A template may open the thinking, or write empty thinking, before that of the content.
    twice = answer.startswith("<think>") and (opening or before).rstrip().endswith("think>")
    if opening is not None and not twice:
        return whole, spans
    # What the template kept of the answer is its end; what follows that closes the turn.
    kept = next(
        (end for i in range(len(answer)) if (end := answer[i:].strip()) and end in turn), None
    )
    if kept is None:
        raise DemosError("the chat template drops the last answer; give prompt and response")
    closing = turn[turn.index(kept) + len(kept) :]
    # Serving may have opened the thinking already.
    text = before + answer[_overlap(before, answer) :] + closing
    return text, [*spans[:-1], (len(before), len(text))]


def _overlap(one: str, other: str) -> int:
    """The length of the longest end of one text that is a beginning of the other."""
    longest = min(len(one), len(other))
    return next((n for n in range(longest, 0, -1) if one.endswith(other[:n])), 0)


def _common(one: str, other: str) -> int:
    """The length of the common beginning of two texts."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _cut(ids: Any, is_response: Any, max_length: int | None) -> TokenSequence:
    kept = len(ids) if max_length is None else min(len(ids), max_length)
    return TokenSequence(ids[:kept], is_response[:kept], cut=len(ids) - kept)
