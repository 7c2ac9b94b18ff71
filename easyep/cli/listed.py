"""Groups of commands that are known by a list before any of them is imported."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from easyep.registry import unknown_name

# Command -> the module of this room that it lives in, and its line in the list of commands.
Listed = Mapping[str, tuple[str, str]]


class NobodyReadsError(Exception):
    """Somebody closed the pipe that we print to, as `head` does."""


@contextmanager
def _broken_pipes() -> Iterator[None]:
    """Tells of closed pipes in a way that click leaves alone: it would exit with 1."""
    try:
        yield
    except BrokenPipeError:
        raise NobodyReadsError from None


class ListedGroup(click.Group):
    """Imports a command's module only when the command is asked for, so that help comes at once.

    Args:
        listed: the commands.
    """

    def __init__(self, *arguments: Any, listed: Listed, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._listed = listed

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._listed)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._listed:
            return None
        module = import_module(f"easyep.cli.{self._listed[name][0]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self._listed.items()])

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        with _broken_pipes():  # help is printed here
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _broken_pipes():
            return super().invoke(ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # From the list alone: to import every module would make the shell wait.
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=summary)
            for name, (_, summary) in self._listed.items()
            if name.startswith(incomplete)
        ]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._listed and not args[0].startswith("-"):
            raise click.UsageError(str(unknown_name("command", args[0], self._listed)), ctx)
        return super().resolve_command(ctx, args)
