"""`easyep completion`: what a shell needs to complete commands, options and names."""

import click
from click.shell_completion import get_completion_class

from easyep.cli import options
from easyep.cli.console import print_json, print_text
from easyep.cli.sections import command

SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    epilog="\b\nExamples:\n  easyep completion bash >> ~/.bashrc\n"
    "  easyep completion fish > ~/.config/fish/completions/easyep.fish",
)
@click.argument("shell", metavar="|".join(SHELLS))
@options.common
def completion_command(shell: str, as_json: bool, quiet: bool, debug: bool) -> None:
    """Print the script that completes commands in a shell."""
    if shell not in SHELLS:
        raise click.UsageError(f"which shell? one of {', '.join(SHELLS)}, not {shell!r}")
    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root().command
    # Not `source()`: it starts a bash to ask for its version, which may be absent.
    made = found(root, {}, "easyep", "_EASYEP_COMPLETE")
    script = made.source_template % made.source_vars()
    if as_json:
        print_json({"shell": shell, "script": script})
    else:
        print_text(script)
