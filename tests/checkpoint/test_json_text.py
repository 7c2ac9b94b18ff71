import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyep.checkpoint.json_text import replaced
from easyep.strict_json import parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=3), VALUES), st.data(), st.sampled_from([None, 2]))
def test_only_the_edited_value_changes(
    value: dict[str, Any], data: st.DataObject, indent: int | None
) -> None:
    key = data.draw(st.sampled_from([*value, "a new one"]))
    new = data.draw(VALUES)
    text = json.dumps(value, indent=indent)
    changed = replaced(text, {(key,): new})
    expected = {**value, key: new}
    assert parse(changed) == expected
    assert list(parse(changed)) == list(expected)


def test_every_other_character_stays() -> None:
    text = '{\n\t"a" : 1e-6,\n\t"b":{"c":  256,\n"d":[1,\n2]}, "e":"\\u00e9"}\n'
    assert replaced(text, {("b", "c"): 128}) == text.replace("256", "128")


def test_new_keys_look_like_their_neighbours() -> None:
    assert replaced('{\n  "a": 1\n}', {("b",): 2}) == '{\n  "a": 1,\n  "b": 2\n}'
    assert replaced('{"a": {}}', {("a", "b"): 2}) == '{"a": {"b": 2}}'
    assert replaced('{"a":1,"c":3}', {("b",): 2}) == '{"a":1,"c":3, "b": 2}'


def test_compact_text_stays_compact() -> None:
    assert replaced('{"a":1,"b":[2],"c":3}', {("b",): [4], ("c",): 5}) == '{"a":1,"b":[4],"c":5}'


@pytest.mark.parametrize("value", ["é", ["é"]])
@pytest.mark.parametrize("text", ['{"a": 1}', '{\n"a": 1\n}'])
def test_letters_stay_letters(text: str, value: Any) -> None:
    changed = replaced(text, {("a",): value})
    assert "é" in changed
    assert parse(changed) == {"a": value}


def test_new_lists_are_indented_as_deep_as_their_line() -> None:
    text = '{\n  "a": {\n    "b": [\n      "x",\n      "y"\n    ]\n  }\n}'
    assert replaced(text, {("a", "b"): ["x"]}) == text.replace(',\n      "y"', "")
