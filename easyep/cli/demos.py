"""`easyep demos`: what a model is shown, looked at and made."""

import click

from easyep.cli.listed import ListedGroup

# Subcommand -> the module of this room that it lives in, and its line in the list.
SUBCOMMANDS = {
    "show": ("demos_look", "Print what a model reads of demonstrations, responses in colour."),
    "check": ("demos_look", "Look for duplicates, gaps, wrong answers, leaks and imbalance."),
    "build": ("demos_make", "Draw demonstrations from a Hugging Face data set by a recipe."),
    "generate": ("demos_make", "Ask a model for its own answers to prompts."),
    "table": ("demos_look", "Print the table of the domains that come with easyep, as Markdown."),
}


@click.group(
    "demos",
    cls=ListedGroup,
    listed=SUBCOMMANDS,
    epilog="\b\nExample:\n  easyep demos show math --model demo",
)
def demos_command() -> None:
    """Look at demonstrations, check them, make your own."""
