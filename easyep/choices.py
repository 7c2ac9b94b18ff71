"""Checks of what people give: each returns the value or says what would be valid."""

import dataclasses
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from math import isfinite, nan
from numbers import Integral, Real
from typing import Any, TypeVar

from easyep.errors import ArtifactError
from easyep.registry import unknown_name

T = TypeVar("T")


def known(what: str, value: Mapping[str, Any], kind: type, required: Sequence[str]) -> None:
    """Check the keys of a mapping that is to become the dataclass `kind`.

    Raises:
        UnknownNameError: `kind` has no such field.
        ArtifactError: a required one is missing.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    for key in value:
        if key not in names:
            raise unknown_name(f"{what} key", str(key), names)
    for key in required:
        if key not in value:
            raise ArtifactError(f"a {what} needs {key!r}")


def text(name: str, value: Any) -> str:
    """A text that is not empty, and without NUL, which ends names where the system reads them."""
    found = os.fspath(value) if isinstance(value, (str, os.PathLike)) else ""
    if not found or "\0" in str(found):
        raise ArtifactError(f"{name} must be a text, not {reprlib.repr(value)}")
    return str(found)


def written(name: str, value: Any) -> str:
    """A text, or a whole number, which YAML makes of one that is written so."""
    return str(int(value)) if is_whole(value) else text(name, value)


def count(name: str, value: Any) -> int:
    """An integer of at least 1."""
    if not is_whole(value) or value < 1:
        raise ArtifactError(f"{name} must be a positive integer, not {reprlib.repr(value)}")
    return int(value)


def size(name: str, value: Any) -> int:
    """A number of bytes: a whole number, or a text such as ``5GB``, ``500MB`` or ``2GiB``."""
    if is_number(value) and value % 1 == 0:
        value = int(value)  # 80e9 is one
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(B|[KMGT]i?B)?", str(value), re.IGNORECASE)
    if not isinstance(value, (int, str)) or isinstance(value, bool) or not found:
        raise ArtifactError(
            f"{name} must be a size such as 5GB or 500MB, not {reprlib.repr(value)}"
        )
    unit = (found[2] or "B").upper()
    base = 1024 if "I" in unit else 1000
    nbytes = int(Decimal(found[1]) * base ** "BKMGT".index(unit[0]))
    if nbytes < 1:
        raise ArtifactError(f"{name} must be at least one byte, not {reprlib.repr(value)}")
    return nbytes


def seed(name: str, value: Any) -> int:
    """An integer of at least 0."""
    if not is_whole(value) or value < 0:
        raise ArtifactError(f"{name} must be an integer of at least 0, not {reprlib.repr(value)}")
    return int(value)


def number(name: str, value: Any) -> float:
    """A finite number."""
    try:
        found = float(value) if is_number(value) else nan
    except OverflowError:  # a whole number can be larger than any of these
        found = nan
    if not isfinite(found):
        raise ArtifactError(f"{name} must be a number, not {reprlib.repr(value)}")
    return int(value) if is_whole(value) else found


def is_number(value: Any) -> bool:
    """Whether it is a real number, of Python or of numpy; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether it is an integer, of Python or of numpy; true and false are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def share(name: str, value: Any) -> float:
    """A number above 0 and at most 1."""
    if not 0 < number(name, value) <= 1:
        raise ArtifactError(f"{name} must be above 0 and at most 1, not {reprlib.repr(value)}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """True or false, and nothing that merely counts as such."""
    if type(value) is not bool:
        raise ArtifactError(f"{name} must be true or false, not {reprlib.repr(value)}")
    return value


def optional(check: Callable[[str, Any], T]) -> Callable[[str, Any], T | None]:
    """`check`, or None."""
    return lambda name, value: None if value is None else check(name, value)


def several(check: Callable[[str, Any], T]) -> Callable[[str, Any], tuple[T, ...]]:
    """What `check` accepts, any number of it; one alone, a text above all, counts as one."""

    def each(name: str, value: Any) -> tuple[T, ...]:
        alone = not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping))
        return tuple(check(name, item) for item in ([value] if alone else value))

    return each


def one_of(valid: Sequence[str]) -> Callable[[str, Any], str]:
    """One of the names in `valid`."""

    def choose(name: str, value: Any) -> str:
        if value not in valid:
            raise unknown_name(name.replace("_", "-"), str(value), valid)
        return str(value)

    return choose
