"""Tables of a family's TOML file, read with errors that say where."""

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any


def check_keys(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raises ValueError where `table` has another key than those that are known."""
    if unknown := sorted(set(table) - set(known)):
        raise ValueError(
            f"{where} has unknown key {unknown[0]!r} (valid: {', '.join(sorted(known))})"
        )


def words(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The list of strings under `key`; a string alone would be taken for its letters."""
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError(f'{key} must be a list of strings, such as ["name"]')
    return tuple(found)


def compiled(pattern: Any, where: str) -> re.Pattern[str]:
    """`pattern` as a regex over ASCII; ValueError says `where` it is wrong."""
    if not isinstance(pattern, str):
        raise ValueError(f"{where} must be a string with a regular expression")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of patterns that will mean something else one day
            return re.compile(pattern, re.ASCII)
    except (re.error, Warning) as error:
        raise ValueError(f"{where}: {error}") from None
