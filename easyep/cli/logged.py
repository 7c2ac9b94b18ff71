"""`--log-file`: opened when all options are known, for it may not be in the way of the result."""

import logging
import os
from contextlib import suppress
from pathlib import Path

import click

from easyep import __version__
from easyep.atomic import expanded
from easyep.cli.values import NewDirectory
from easyep.cli.voice import VOICE
from easyep.errors import OutputError

_KEY = "easyep.log_file"


class Logged(click.Command):
    """A command that writes what is said to the file that `wish_log` was told of, if any."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            left = super().parse_args(ctx, args)
        except click.UsageError:
            log = ctx.meta.get(_KEY)
            # What was wrong may have been the output: no folder is made then.
            if log is not None and expanded(log).parent.is_dir():
                with suppress(OutputError):
                    self._open(log, ctx)
            raise
        log = ctx.meta.get(_KEY)
        if log is not None and not ctx.resilient_parsing:
            output = ctx.params.get("output")
            new = any(isinstance(p.type, NewDirectory) for p in self.params if p.name == "output")
            if output is not None:
                check_log(log, output, new=new)
            self._open(log, ctx)
        return left

    def _open(self, log: str, ctx: click.Context) -> None:
        VOICE.log_to(log)
        VOICE.note(logging.INFO, f"easyep {__version__} {ctx.info_name}")


def wish_log(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """The callback of `--log-file`."""
    if value is not None:
        ctx.meta[_KEY] = value


def check_log(log: str, output: str, *, new: bool) -> None:
    """Raises UsageError where a log is the output, or lies in one that is to be `new`."""
    file, place = (Path(os.path.realpath(expanded(path))) for path in (log, output))
    if file == place:
        raise click.UsageError(f"--log-file {log} is the output itself; choose another file")
    if new and file.is_relative_to(place):
        raise click.UsageError(
            f"--log-file {log} lies in the output {output}, which is to be new; choose another file"
        )
