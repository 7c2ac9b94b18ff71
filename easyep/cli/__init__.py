"""Arguments in, sentences out: the only room that prints or exits."""

import sys
import traceback
from collections.abc import Sequence

import click

from easyep import __version__
from easyep.cli.console import complain
from easyep.errors import EasyEPError


class _Commands(click.Group):
    """Imports a command's module only when the command is asked for, so that help comes at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = __import__(f"easyep.cli.{_COMMANDS[name]}", fromlist=[name])
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from easyep.registry import unknown_name

            raise click.UsageError(str(unknown_name("command", args[0], _COMMANDS)), ctx)
        return super().resolve_command(ctx, args)


_COMMANDS = {
    "prune": "prune",
    "observe": "stages",
    "score": "stages",
    "select": "stages",
    "rewrite": "stages",
    "verify": "stages",
    "inspect": "look",
    "eval": "measure",
    "list": "look",
    "run": "prune",
}


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start here: easyep prune --model demo --domain math --keep 0.5 --output demo-math",
)
@click.version_option(__version__, prog_name="easyep")
def app() -> None:
    """Make a Mixture-of-Experts language model smaller for a domain.

    easyep shows the model a few demonstrations, scores each routed expert by what it contributed
    (EASY-EP), keeps the best of every layer, and writes a checkpoint that any engine loads.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a clear error, 2 wrong usage, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app.main(words, prog_name="easyep", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except EasyEPError as error:
        if "--debug" in words:
            traceback.print_exc()
        complain(str(error))
        code = 1
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted")
        code = 130
    except BrokenPipeError:
        # Somebody closed the pipe that we print to, as `head` does.
        sys.stderr.close()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
