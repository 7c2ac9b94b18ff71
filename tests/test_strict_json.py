"""JSON that is read strictly."""

from collections.abc import Callable
from typing import Any

import pytest

from easyep.strict_json import MAX_NESTING, check_nesting, parse


@pytest.mark.parametrize("inner", [0, [], {}, "text"])
@pytest.mark.parametrize("wrap", [lambda each: [0, each], lambda each: {"a": "b", "c": each}])
def test_nesting_is_counted_in_lists_and_objects(
    inner: Any, wrap: Callable[[Any], dict[str, Any] | list[Any]]
) -> None:
    value = inner
    for _ in range(MAX_NESTING):
        value = wrap(value)
    check_nesting(value)
    with pytest.raises(ValueError, match="nested too deeply"):
        check_nesting(wrap(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' appears twice"),
        ('{"b": 1, "a": 1, "a": 2}', "'a' appears twice"),
        ('{"a": ', "Expecting value"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
