"""How a long stage says how far it is, without knowing whether anybody looks."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


class Task(Protocol):
    """One thing under way."""

    def advance(self, amount: int = 1) -> None:
        """`amount` more of the task's units are done; may be called from any thread."""


@runtime_checkable
class Noting(Task, Protocol):
    """A task that can show a line that changes, such as a speed."""

    def note(self, text: str) -> None:
        """What to show beside the task, in place of what was there."""


class Progress(Protocol):
    """What a stage reports to; the command line draws it as bars."""

    def task(self, title: str, total: int, unit: str) -> AbstractContextManager[Task]:
        """Begin a task of `total` units; `unit` is ``"bytes"`` or a plural noun."""

    def say(self, sentence: str) -> None:
        """Something to know before or while a task runs."""


class _Silent:
    """Reports to nobody."""

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        yield self

    def advance(self, amount: int = 1) -> None:
        pass

    def say(self, sentence: str) -> None:
        pass


SILENT: Progress = _Silent()
