"""`--log-file`: opened when all options are known, for it may not be in the way of the result."""

import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from easyep import __version__
from easyep.atomic import expanded
from easyep.cli.values import NewDirectory
from easyep.cli.voice import VOICE
from easyep.places import outside_checkpoints

_KEY = "easyep.log_file"
_NEW = b"0000-00-00 00:00:00,000 "  # an empty file may become one

# A command's parameters -> its output, and whether nothing may be there yet.
OutputOf = Callable[[dict[str, Any]], tuple[str | None, bool]]


class Logged(click.Command):
    """A command that writes what is said to the file that `wish_log` was told of, if any.

    Args:
        output_of: finds the output where it is not the option's value alone.
    """

    def __init__(self, *arguments: Any, output_of: OutputOf | None = None, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._output_of = output_of or self._option

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        left = super().parse_args(ctx, args)
        log = ctx.meta.get(_KEY)
        if log is not None and not ctx.resilient_parsing:
            output, new = self._output_of(ctx.params)
            if output is not None:
                _check_log(log, output, new)
            _check_file(log)
            outside_checkpoints(log)
            VOICE.log_to(log)
            VOICE.note(logging.INFO, f"easyep {__version__} {ctx.info_name}")
        return left

    def _option(self, given: dict[str, Any]) -> tuple[str | None, bool]:
        new = any(isinstance(p.type, NewDirectory) for p in self.params if p.name == "output")
        return given.get("output"), new


def wish_log(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """The callback of `--log-file`."""
    if value is not None:
        ctx.meta[_KEY] = value


def _check_file(log: str) -> None:
    """Raises UsageError where a file is there that is no log."""
    file = expanded(log)
    if os.path.isfile(file):  # noqa: PTH113 (Path's may raise)
        with suppress(OSError), file.open("rb") as stream:
            if re.match(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", stream.read(30) or _NEW) is None:
                raise click.UsageError(f"--log-file {log} is there, and is no log; choose another")


def _check_log(log: str, output: str, new: bool) -> None:
    """Raises UsageError where a log is the output, or lies in one that is to be new."""
    file, place = (Path(os.path.realpath(expanded(path))) for path in (log, output))
    named = re.escape(str(place)).replace(re.escape("{keep}"), "[0-9]+")  # as in `select`
    if file == place or re.fullmatch(named, str(file)):
        raise click.UsageError(f"--log-file {log} is the output itself; choose another file")
    if new and file.is_relative_to(place):
        raise click.UsageError(
            f"--log-file {log} lies in the output {output}, which is to be new; choose another file"
        )
