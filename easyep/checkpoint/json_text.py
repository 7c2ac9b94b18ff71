"""JSON that is changed in place, so that nothing but the change differs."""

import json
from collections.abc import Mapping
from json.decoder import WHITESPACE, scanstring  # type: ignore[attr-defined]
from typing import Any


def at(value: Any, path: tuple[str, ...]) -> Any:
    """What lies under `path` in a parsed JSON value; None where there is no such path."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def replaced(text: str, edits: Mapping[tuple[str, ...], Any]) -> str:
    """`text` with other values at some paths; every other character stays as it is.

    Args:
        text: a JSON object that `easyep.strict_json.parse` accepts.
        edits: path of keys -> new value. Where the last key of a path is absent, it is added
            at the end of its object; the objects on the way must exist.
    """
    for path, value in edits.items():
        text = _with_value(text, path, value)
    return text


def _with_value(text: str, path: tuple[str, ...], value: Any) -> str:
    start = _skip(text, 0)
    for key in path[:-1]:
        start, _ = _members(text, start)[key]
    members = _members(text, start)
    if path[-1] in members:
        begin, end = members[path[-1]]
        return text[:begin] + _dumped(value, text, begin) + text[end:]
    # The new member copies the line break and the indentation of the first one.
    opened = start + 1
    blank = text[opened : _skip(text, opened)] if members else ""
    end = max((end for _, end in members.values()), default=opened)
    comma = "," if members else ""
    separator = blank or (" " if comma else "")
    return f"{text[:end]}{comma}{separator}{json.dumps(path[-1])}: {json.dumps(value)}{text[end:]}"


def _dumped(value: Any, text: str, begin: int) -> str:
    """`value` as JSON, broken into lines as deep as the line that it starts on."""
    if "\n" not in text.strip():
        return json.dumps(value, ensure_ascii=False)
    line = text[:begin].rpartition("\n")[2]
    indent = line[: len(line) - len(line.lstrip())]
    return json.dumps(value, ensure_ascii=False, indent=2).replace("\n", "\n" + indent)


def _members(text: str, start: int) -> dict[str, tuple[int, int]]:
    """Key -> (begin, end) of its value, for the object that starts at `start`."""
    decoder = json.JSONDecoder()
    members = {}
    at = _skip(text, start + 1)
    while text[at] != "}":
        key, at = scanstring(text, at + 1)
        begin = _skip(text, _skip(text, at) + 1)
        _, end = decoder.raw_decode(text, begin)
        members[key] = (begin, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return members


def _skip(text: str, at: int) -> int:
    """The first position from `at` on that is no white space."""
    return int(WHITESPACE.match(text, at).end())
