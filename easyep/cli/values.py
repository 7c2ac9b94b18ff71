"""What options take, as people write it; what they cannot take is wrong usage."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import Any

import click
from click.shell_completion import CompletionItem

from easyep import choices, runner_names
from easyep.architectures.router import budget
from easyep.deepspeed_settings import read_deepspeed_settings
from easyep.demonstrations import check_unweighted, parse_domain, parse_weighted
from easyep.errors import EasyEPError
from easyep.memory_limits import limits
from easyep.reporting.drawing import check_format
from easyep.selection import ALLOCATIONS, SUPER_EXPERTS, check_allocation, check_entry


class Checked(click.ParamType[Any]):
    """What a check of the library accepts.

    Args:
        name: what it is called in help.
        check: text -> the option's value; raises EasyEPError where it is none.
    """

    def __init__(self, name: str, check: Callable[[Any], Any]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._check(value)
        except EasyEPError as error:
            self.fail(str(error), param, ctx)


class OneOf(Checked):
    """One of few words, which help shows all, and a shell completes.

    Args:
        name: what it is called.
        valid: gives the words.
        check: as in `Checked`; by default that it is one of them.
    """

    def __init__(
        self,
        name: str,
        valid: Callable[[], Sequence[str]],
        check: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(name, check or (lambda word: choices.one_of(valid())(name, word)))
        self._valid = valid

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(word) for word in self._valid() if word.startswith(incomplete)]


def one_of(name: str, valid: Sequence[str]) -> OneOf:
    """One of these words."""
    return OneOf(name, lambda: valid)


def returning(check: Callable[[str], Any]) -> Callable[[str], str]:
    """`check`, but what comes of it is the text as it is."""

    def checked(text: str) -> str:
        check(text)
        return text

    return checked


def as_it_is(name: str, check: Callable[[str], Any]) -> Checked:
    """A text that `check` accepts."""
    return Checked(name, returning(check))


def _budget(text: Any) -> float:
    plain = re.fullmatch(r"-?(\d+|\d*\.\d+)", str(text), re.ASCII)
    if plain is None:
        return budget("it", text)
    return budget("it", float(text) if "." in str(text) else int(text))


def _check_protected(entry: str) -> None:
    if entry != SUPER_EXPERTS:
        check_entry(entry)


KEEP = Checked("fraction|count", _budget)
SIZE = Checked("size", partial(choices.size, "the size"))
MEMORY_LIMITS = Checked("size", partial(limits, "the memory"))
DEEPSPEED_FILE = as_it_is("file", read_deepspeed_settings)
ALLOCATION = OneOf("allocation", lambda: ALLOCATIONS, returning(check_allocation))
PROTECTED = as_it_is("experts", _check_protected)
FORBIDDEN = as_it_is("experts", check_entry)
DOMAIN = as_it_is("name", parse_domain)
WEIGHTED = as_it_is("file", parse_weighted)
ALONE = as_it_is("name", check_unweighted)
FIGURE = as_it_is("file", check_format)


# Others may register theirs later, so that the names are asked for each time.
RUNNER = OneOf("runner", runner_names.choices)


class NewDirectory(click.ParamType[str]):
    """A directory that is to appear whole: nothing else may be put there before."""

    name = "dir"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


class Number(click.FloatRange):
    """A number within bounds; no NaN, which no bound refuses, and no infinity."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number
