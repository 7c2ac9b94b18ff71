"""How things look: messages and progress on standard error, results on standard output."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from easyep.cli.plain import plain, plain_json
from easyep.cli.voice import VOICE, Noted, to_standard_error
from easyep.errors import OutputError
from easyep.progress import SILENT, Progress, Task
from easyep.reporting.numbers import size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from easyep.artifacts import Observations


def say(message: str) -> None:
    """A message for the person who waits."""
    VOICE.say(message)


def warn(message: str) -> None:
    """A message that `--quiet` does not hold back."""
    VOICE.warn(message)


def say_dropped_mtp(layers: Sequence[int], asked: str, when: str = "was") -> None:
    """Tell what `--mtp auto` left out; who asked for `drop` knows."""
    if layers and asked == "auto":
        warn(
            f"the multi-token-prediction layer {layers[0]} {when} left out, since transformers "
            "would report its tensors as unexpected; --mtp score keeps it where transformers can "
            "run it, --mtp follow in any case"
        )


def warn_about_demos(seen: "Observations", asked: int, quiet: bool) -> None:
    """Tell of fewer demonstrations than were asked for, and of cut ones if nobody has yet.

    Args:
        seen: what was observed.
        asked: how many demonstrations; 0 = any number.
        quiet: progress has told nothing.
    """
    number = len(seen.demos)
    if number < asked:
        warn(f"{seen.domain}: only {number} demonstrations are there; --n-demos asks for {asked}")
    cut = [demo.cut for demo in seen.demos if demo.cut]
    if cut and quiet:
        warn(
            f"{len(cut)} of {number} demonstrations of {seen.domain} were longer than "
            f"the limit and lost {sum(cut)} tokens at their ends"
        )


def complain(message: str) -> None:
    """An error, as one message."""
    VOICE.note(logging.ERROR, message)
    to_standard_error(f"easyep: error: {message}")


@contextmanager
def _standard_output() -> Iterator[None]:
    """Raises OutputError where the result cannot be printed, such as into a file on a full disk."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"standard output cannot be written: {error.strerror}; the command itself is done, and "
            "what it was asked to write is in place"
        ) from None


def print_json(value: Mapping[str, Any]) -> None:
    """The result of a command with `--json`: one object, nothing else."""
    with _standard_output():
        print(plain_json(json.dumps(value, ensure_ascii=False)))


def print_text(text: str) -> None:
    """A result that is no table."""
    with _standard_output():
        print(plain(text))


def print_coloured(text: "Text") -> None:
    """A result in colours, on terminals; what is other people's in it went through `plain`."""
    with _standard_output():
        _console(soft_wrap=True).print(text)


def _console(**settings: Any) -> "Console":
    """A console of rich that leaves it to easyep what becomes of a closed pipe."""
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            raise  # what is being handled: rich would exit with 1

    return Ours(**settings)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; columns that hold numbers only are set to the right.

    Nothing is cut: texts go on in the next line where the terminal is narrow. Numbers do not, a
    table of many is wider than the terminal then.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(plain(title)) if title else None,
        title_justify="left",
        box=SIMPLE_HEAD,
        title_style="bold",
    )
    for i, column in enumerate(columns):
        numeric = all(str(row[i])[:1].isdigit() or str(row[i])[:1] in "-+±" for row in rows)
        table.add_column(
            Text(plain(column)),
            justify="right" if numeric and rows else "left",
            overflow="fold",
            min_width=_least_width(column, [str(row[i]) for row in rows], whole=numeric),
        )
    for row in rows:
        table.add_row(*(Text(plain(str(cell))) for cell in row))
    console = _console()
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = max(console.width, 120)
    anywhere = console.options.update(max_width=sys.maxsize)
    if console.measure(table, options=anywhere).minimum > console.width:
        table.padding = 0
    console.width = max(console.width, 4 * len(columns))  # rich forgets columns of no width
    with _standard_output():
        console.print(table, crop=False)


# Longer ones, of paths above all, are no numbers, and go on in the next line.
_LONGEST_WORD = 24


def _least_width(heading: str, cells: Sequence[str], *, whole: bool) -> int:
    """Characters in which no word is broken, nor a `whole` cell such as ``1.2 ± 0.3``."""
    parts = [*heading.split(), *(cells if whole else " ".join(cells).split())]
    return max((min(len(plain(part)), _LONGEST_WORD) for part in parts), default=1)


def human_time(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress_bars(quiet: bool = False) -> Iterator[Progress]:
    """Bars and sentences on standard error.

    Where that is no terminal, a line now and then instead of bars; nothing where `quiet` is asked
    for.
    """
    if quiet or not sys.stderr.isatty():
        yield Noted(SILENT if quiet else _Sentences())
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    with (
        os.fdopen(os.dup(2), "w") as stream,
        Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            # A stream of its own: libraries that are told to be quiet have sys.stderr replaced.
            console=_console(file=stream),
            transient=True,
        ) as bars,
    ):
        yield Noted(_Bars(bars))


class _Sentences:
    """Says what there is to know, and draws nothing."""

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        yield _Lines(title, total, unit)

    def say(self, sentence: str) -> None:
        to_standard_error(sentence)


class _Lines:
    """Says how far a task is once in `EVERY` seconds: a log shows that a run of hours is alive."""

    EVERY = 30.0

    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._note = 0, ""
        self._begin = self._said = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._done += amount
            now = time.monotonic()
            if now - self._said < self.EVERY or not 0 < self._done <= self._total:
                return
            self._said = now
        left = (now - self._begin) * (self._total - self._done) / self._done
        share = f"{self._done / self._total:.0%} of {self._amount()}"
        say(
            ", ".join(
                filter(None, [f"{self._title}: {share}", self._note, f"{human_time(left)} left"])
            )
        )

    def note(self, text: str) -> None:
        self._note = text

    def _amount(self) -> str:
        return size(self._total) if self._unit == "bytes" else f"{self._total:,} {self._unit}"


class _Bars:
    """Draws easyep's progress with rich."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        identity = self._bars.add_task(plain(title), total=total, unit=unit, note="")
        yield _Bar(self._bars, identity)
        self._bars.remove_task(identity)

    def say(self, sentence: str) -> None:
        self._bars.console.print(plain(sentence), markup=False, highlight=False)


class _Bar:
    def __init__(self, bars: Any, identity: Any) -> None:
        self._bars, self._identity = bars, identity

    def advance(self, amount: int = 1) -> None:
        self._bars.advance(self._identity, amount)

    def note(self, text: str) -> None:
        self._bars.update(self._identity, note=plain(text))
