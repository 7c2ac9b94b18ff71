"""`easyep demos`: what a model is shown, looked at and made."""

from importlib import import_module

import click

# Subcommand -> the module of this room that it lives in, and its line in the list.
SUBCOMMANDS = {
    "show": ("demos_look", "Print what a model reads of demonstrations, responses in colour."),
    "check": ("demos_look", "Look for duplicates, gaps, wrong answers, leaks and imbalance."),
    "build": ("demos_make", "Draw demonstrations from a Hugging Face data set by a recipe."),
    "generate": ("demos_make", "Ask a model for its own answers to prompts."),
    "table": ("demos_look", "Print the table of the domains that come with easyep, as Markdown."),
}


class _Subcommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in SUBCOMMANDS:
            return None
        module = import_module(f"easyep.cli.{SUBCOMMANDS[name][0]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in SUBCOMMANDS.items()])


@click.group(
    "demos",
    cls=_Subcommands,
    epilog="\b\nExample:\n  easyep demos show math --model demo",
)
def demos_command() -> None:
    """Look at demonstrations, check them, make your own."""
