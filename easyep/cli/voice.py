"""How much is said, and what of it is kept: `--quiet`, `--verbose`, `--log-file`."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from time import monotonic

from easyep.atomic import expanded
from easyep.cli.plain import plain
from easyep.errors import OutputError
from easyep.progress import Progress, Task


class _LogFile(logging.FileHandler):
    """A log whose troubles are its writer's; the usual one prints a traceback for every message."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        raise


def to_standard_error(message: str) -> None:
    """Print a message; where nobody reads them any more, this and all others go nowhere."""
    try:
        print(plain(message), file=sys.stderr)
        sys.stderr.flush()
    except BrokenPipeError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


class Voice:
    """What is said to the person who waits, on standard error, and noted in the log file.

    Attributes:
        quiet: warnings and errors only.
        verbose: also when each step begins and ends.
    """

    def __init__(self) -> None:
        self.quiet = False
        self.verbose = False
        self._log: logging.Handler | None = None

    def reset(self) -> None:
        """As at the start of a command: neither quiet nor verbose, and no log."""
        self.quiet = self.verbose = False
        if self._log is not None:
            self._log.close()
        self._log = None

    def log_to(self, path: str) -> None:
        """Append to a file what is said from now on, and all that `verbose` would say.

        Raises:
            OutputError: it cannot be written.
        """
        if not path:
            raise OutputError("--log-file has no name")
        try:
            file = expanded(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            self._log = _LogFile(file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise OutputError(
                f"the log file {path} cannot be written ({error.strerror}): choose another "
                "--log-file"
            ) from None
        self._log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def say(self, message: str) -> None:
        """Something to know."""
        self.note(logging.INFO, message)
        if not self.quiet:
            to_standard_error(message)

    def warn(self, message: str) -> None:
        """Something that may be wrong; `--quiet` does not hold it back."""
        self.note(logging.WARNING, message)
        to_standard_error(message)

    def note(self, level: int, message: str) -> None:
        """For the log file only."""
        if self._log is None:
            return
        try:
            self._log.handle(logging.LogRecord("easyep", level, "", 0, plain(message), None, None))
        except OSError as error:
            log, self._log = self._log, None
            with suppress(OSError):
                log.close()
            self.warn(f"the log ends here, since it cannot be written: {error.strerror}")


VOICE = Voice()


class Noted:
    """Progress that also notes, and with `--verbose` says, when each task begins and ends."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        self._step(f"{title}: {total:,} {unit}")
        start = monotonic()
        inner: AbstractContextManager[Task] = self._shown.task(title, total, unit)
        with inner as task:
            yield task
        self._step(f"{title}: done in {monotonic() - start:.1f} s")

    def say(self, sentence: str) -> None:
        VOICE.note(logging.INFO, sentence)
        self._shown.say(sentence)

    def _step(self, sentence: str) -> None:
        VOICE.note(logging.DEBUG, sentence)
        if VOICE.verbose:
            self._shown.say(sentence)
