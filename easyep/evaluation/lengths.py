"""How many tokens requests bring and get back."""

from collections.abc import Sequence
from typing import Any

from easyep.errors import EvaluationError

# Input + output tokens as the field measures them: balanced, long answers, long prompts.
LENGTHS: tuple[tuple[int, int], ...] = ((1024, 1024), (1024, 4096), (4096, 1024))

Lengths = tuple[int, int] | Sequence[tuple[int, int]]


def pairs(lengths: Lengths) -> tuple[tuple[int, int], ...]:
    """Pairs of (input, output) tokens, each once; one pair alone is one.

    Raises:
        EvaluationError: one of them is no pair of positive integers.
    """
    given: list[Any] = [lengths] if _is_pair(lengths) else list(lengths)
    for each in given:
        if not _is_pair(each):
            raise EvaluationError(
                f"lengths must be pairs of tokens such as (1024, 4096), not {each!r}"
            )
    return tuple(dict.fromkeys((first, second) for first, second in given))


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(type(number) is int and number > 0 for number in value)
    )
