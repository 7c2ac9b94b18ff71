"""Options in sections, so that the help of a command with forty of them can be read."""

from collections.abc import Callable
from typing import Any

import click

from easyep.cli.logged import Logged, OutputOf

# Title -> options, in the order shown. What no section names is the command's own.
SECTIONS = {
    "What is shown": (
        "domain demos n-demos tokens-per-domain max-length demo-order style mask-ratio seed"
    ),
    "Which experts are kept": (
        "keep criterion tokens mix align groups allocation protect forbid mtp"
    ),
    "Where the result is to run": "engine tensor-parallel expert-parallel max-shard-size",
    "How the model is run": (
        "runner deepspeed-config device dtype batch-size max-memory peer-timeout records "
        "trust-remote-code"
    ),
    "Messages": "json quiet verbose log-file debug help",
}
OWN = "Options"
_TITLES = {f"--{name}": title for title, names in SECTIONS.items() for name in names.split()}
# Below so many options a single list is easier.
_MANY = 14


class _Sectioned(Logged):
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, options in sections(self):
            records = [option.get_help_record(ctx) for option in options]
            with formatter.section(title):
                formatter.write_dl([record for record in records if record is not None])


def command(
    name: str, *, epilog: str, output_of: OutputOf | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """As `click.command`, with the options of its help in sections; `output_of` as in `Logged`."""
    return click.command(name, cls=_Sectioned, epilog=epilog, output_of=output_of)


def sections(command: click.Command) -> list[tuple[str, list[click.Option]]]:
    """The options of a command, by title; its own come first."""
    context = click.Context(command)
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    found = {
        title: [option for option in options if _title(option, len(options)) == title]
        for title in (OWN, *SECTIONS)
    }
    return [(title, those) for title, those in found.items() if those]


def _title(option: click.Option, many: int) -> str:
    title = _TITLES.get(option.opts[-1], OWN)
    return title if many > _MANY or title == "Messages" else OWN
