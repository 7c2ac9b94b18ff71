"""Arguments in, sentences out: the only room that prints or exits."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

import click

from easyep import __version__
from easyep.cli.console import complain
from easyep.cli.listed import ListedGroup, NobodyReadsError
from easyep.cli.plain import plain
from easyep.cli.signals import ignore_termination, listening
from easyep.cli.voice import VOICE
from easyep.distributed import heard, last_words, tell_failure, until_heard
from easyep.errors import EasyEPError, NotFirstRankError, first_line, tells_of_memory
from easyep.panics import panics_as_errors

# Command -> the module of this room that it lives in, and its line in the list of commands.
COMMANDS = {
    "prune": ("prune", "Prune a model for a domain: observe, score, select, rewrite, verify."),
    "observe": ("stages", "Run the model on demonstrations and record what its experts did."),
    "score": ("deciding", "Score every expert from observations, without the model."),
    "select": ("deciding", "Choose the experts to keep."),
    "stability": ("stability", "Show how much the choice depends on what was shown."),
    "rewrite": ("stages", "Write the checkpoint that has only the selected experts."),
    "verify": ("stages", "Check a pruned checkpoint, byte by byte where its source is given."),
    "inspect": ("look", "Show what is in a checkpoint, and what pruning saves."),
    "eval": ("measure", "Measure accuracy with lm-evaluation-harness."),
    "compare": ("compare", "Compare what two models predict and answer on the same text."),
    "bench": ("bench", "Measure throughput and latency, prefill and decode apart."),
    "report": ("report", "Write one HTML file about a checkpoint, a work directory, or a study."),
    "demos": ("demos", "Look at demonstrations, check them, make your own."),
    "list": ("look", "List what easyep knows by name."),
    "run": ("prune", "Run a recipe: one pruned model, or a study that compares many."),
    "completion": ("completion", "Print the script that completes commands in a shell."),
}


@click.group(
    cls=ListedGroup,
    listed=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nStart here:\n  "
    "easyep prune --model demo --domain math --keep 0.5 --output demo-math",
)
@click.version_option(__version__, prog_name="easyep")
def app() -> None:
    """Make a Mixture-of-Experts language model smaller for a domain.

    easyep shows the model a few demonstrations, scores each routed expert by what it contributed
    (EASY-EP), keeps the best of every layer, and writes a checkpoint that any engine loads.
    """


def _sentence(error: Exception) -> str:
    if isinstance(error, EasyEPError):
        return str(error)
    if isinstance(error, MemoryError) or tells_of_memory(str(error)):
        return (
            f"memory ran out ({first_line(error)}); a smaller --batch-size takes less, as --runner "
            "stream does where the model is run, or end other programs"
        )
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror} (--debug shows where it was needed)"
    return (
        f"unexpected {type(error).__name__}: {first_line(error)} (this is a fault of easyep; the "
        "same command with --debug shows where)"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    0 done; 1 a clear error; 2 wrong usage; 130 interrupted; 141 nobody reads what is printed;
    143 terminated. However it ends, nothing half written has its final name. Of several processes
    that a launcher started, the one that fails says why, and those whose share is done exit with 0.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "LOCAL_RANK" in os.environ:  # where DeepSpeed's launcher says it as well
        words = [word for word in words if not word.startswith("--local_rank=")]
    # Or torch writes of every lost peer by itself, beside the error that says so.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    if sys.stderr is None:  # closed; what is printed to None goes to standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    VOICE.reset()
    with listening() as signals:
        code = _run(words, signals)
    sys.exit(code)


def _run(words: Sequence[str], signals: Sequence[int]) -> int:
    """Run the command, and say what went wrong; the exit code.

    Args:
        signals: the SIGTERMs that have come.
    """
    first = os.environ.get("RANK", "0") == "0"
    try:
        with panics_as_errors():
            code = app.main(words, prog_name="easyep", standalone_mode=False)
    except NotFirstRankError:
        code = 0
    except click.UsageError as error:
        VOICE.note(logging.ERROR, error.format_message())
        if first:
            error.show()
        code = error.exit_code
    except click.ClickException as error:
        if first:
            complain(error.format_message())
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        ignore_termination()  # once is enough
        kept = (error.__cause__ or error).args  # click raises Abort from the KeyboardInterrupt
        reason = "terminated" if signals else "interrupted"
        by_launcher = bool(signals) and os.environ.get("WORLD_SIZE", "1") != "1"
        if by_launcher:
            reason = (
                "ended by the launcher, and no process has said why: one was killed, perhaps since "
                "memory ran out (the launcher's report names it), or the launcher was ended"
            )
        if first and not (by_launcher and heard()):
            complain("; ".join([reason, *map(str, kept)]))
        message = last_words() if by_launcher else None
        if message is not None:
            complain(message)
        code = 128 + (signals or [signal.SIGINT])[0]
    except (NobodyReadsError, BrokenPipeError):
        # We end as programs do that leave the signal to the system; what is still to be printed
        # goes nowhere.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        code = 128 + signal.SIGPIPE
    except Exception as error:
        many = os.environ.get("WORLD_SIZE", "1") != "1"
        if many:
            ignore_termination()  # by a launcher that has seen another process fail
        VOICE.note(logging.DEBUG, traceback.format_exc())
        if "--debug" in words:
            print(plain(traceback.format_exc()), file=sys.stderr, end="")
        message = tell_failure(_sentence(error))
        if message is not None and "--debug" not in words:
            complain(message)
        if many:
            sys.stderr.flush()
            until_heard()
            os._exit(1)  # torch's threads may wait for processes that are gone
        code = 1
    return code if isinstance(code, int) else 0
