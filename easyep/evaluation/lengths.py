"""How many tokens requests bring and get back."""

from collections.abc import Iterable, Sequence
from typing import Any

from easyep.choices import is_whole
from easyep.errors import EvaluationError

# Input + output tokens as the field measures them: balanced, long answers, long prompts.
LENGTHS: tuple[tuple[int, int], ...] = ((1024, 1024), (1024, 4096), (4096, 1024))

Lengths = tuple[int, int] | Sequence[tuple[int, int]]


def pairs(lengths: Lengths) -> tuple[tuple[int, int], ...]:
    """Pairs of (input, output) tokens, each once; one pair alone is one.

    Raises:
        EvaluationError: one of them is no pair of positive integers.
    """
    given: Any = [lengths] if _is_pair(lengths) or not isinstance(lengths, Iterable) else lengths
    found: dict[tuple[int, int], None] = {}
    for each in given:
        if not _is_pair(each):
            raise EvaluationError(
                f"lengths must be pairs of tokens such as (1024, 4096), not {each!r}"
            )
        first, second = each
        found[int(first), int(second)] = None
    return tuple(found)


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(is_whole(number) and number > 0 for number in value)
    )
