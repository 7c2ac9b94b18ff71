"""What options take, as people write it; what they cannot take is wrong usage."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import Any

import click

from easyep import choices, runner_names
from easyep.architectures.router import budget
from easyep.deepspeed_settings import read_deepspeed_settings
from easyep.demonstrations import parse_domain, parse_weighted
from easyep.errors import EasyEPError
from easyep.memory_limits import limits
from easyep.reporting.drawing import check_format
from easyep.selection import check_allocation, check_entry


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


def one_of(name: str, valid: Sequence[str]) -> Checked:
    """One of few words, which help shows all."""
    return Checked(name, partial(choices.one_of(valid), name))


def as_it_is(name: str, check: Callable[[str], Any]) -> Checked:
    """A text that `check` accepts."""

    def checked(text: str) -> str:
        check(text)
        return text

    return Checked(name, checked)


def _budget(text: Any) -> float:
    try:
        number = float(text) if "." in str(text) else int(text)
    except ValueError:
        number = text
    return budget("it", number)


KEEP = Checked("fraction|count", _budget)
SIZE = Checked("size", partial(choices.size, "the size"))
MEMORY_LIMITS = Checked("size", partial(limits, "the memory"))
DEEPSPEED_FILE = as_it_is("file", read_deepspeed_settings)
ALLOCATION = as_it_is("name", check_allocation)
EXPERTS = as_it_is("experts", check_entry)
DOMAIN = as_it_is("name", parse_domain)
WEIGHTED = as_it_is("file", parse_weighted)
FIGURE = as_it_is("file", check_format)


# Others may register theirs later, so that the names are asked for each time.
RUNNER = Checked("runner", lambda name: choices.one_of(runner_names.choices())("runner", name))


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
