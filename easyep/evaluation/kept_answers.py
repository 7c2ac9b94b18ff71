"""Answers in an SQLite file, so that an interrupted evaluation goes on where it was."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from easyep.errors import OutputError

_PATIENCE = 60.0  # seconds, while another process writes
_TABLE = (
    "create table if not exists answers "
    "(question text primary key, answer text not null, sha256 text not null)"
)


class KeptAnswers:
    """A mapping from a question's hash to its answer, as lm-eval wants it for its cache.

    Not lm-eval's own `SqliteDict`: that pickles, and a pickle from another hand can run code; and
    where the thread that it has for the file dies of a damaged one, it waits for ever. Answers are
    JSON here, each with a checksum; one that does not fit its checksum counts as absent, and a file
    that is no such database is begun anew.

    Args:
        path: the file; its folder exists.

    Raises:
        OutputError: it cannot be written. So do all methods.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._told():
            if path.exists() and not _is_whole(path):
                path.unlink()
            self._file = sqlite3.connect(
                path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            # What a killed process has written is with the system already.
            self._file.execute("pragma synchronous = off")
            self._file.execute(_TABLE)

    def __contains__(self, question: str) -> bool:
        return self._text(question) is not None

    def __getitem__(self, question: str) -> Any:
        """Raises KeyError where there is none that is whole."""
        text = self._text(question)
        if text is None:
            raise KeyError(question)
        return json.loads(text)

    def __setitem__(self, question: str, answer: Any) -> None:
        text = json.dumps(answer)
        with self._told():
            self._file.execute(
                "insert or replace into answers values (?, ?, ?)",
                (question, text, _checksum(question, text)),
            )

    def commit(self) -> None:
        """Nothing is left to do: each answer is written as it comes."""

    def close(self) -> None:
        self._file.close()

    def _text(self, question: str) -> str | None:
        with self._told():
            found = self._file.execute(
                "select answer, sha256 from answers where question = ?", (question,)
            ).fetchone()
        if found is None or not isinstance(found[0], str):
            return None
        return found[0] if found[1] == _checksum(question, found[0]) else None

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                f"answers cannot be kept in {self._path}: {error}; make room or remove that file, "
                "and give the same command again: finished tasks are kept beside it"
            ) from None


def _is_whole(path: Path) -> bool:
    """Whether it is a database with our table and nothing else, and SQLite finds nothing wrong."""
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE)) as file:
            # A view of that name can be a question without an end.
            return _schema(file) in ([], _own_schema()) and file.execute(
                "pragma quick_check(1)"
            ).fetchall() == [("ok",)]
    except sqlite3.OperationalError:
        raise  # locked, or a full disk: that says nothing about the file
    except sqlite3.DatabaseError:
        return False


def _own_schema() -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(":memory:")) as file:
        file.execute(_TABLE)
        return _schema(file)


def _schema(file: sqlite3.Connection) -> list[tuple[object, ...]]:
    return file.execute("select type, name, sql from sqlite_master order by name").fetchall()


def _checksum(question: str, text: str) -> str:
    return hashlib.sha256(f"{question}\n{text}".encode()).hexdigest()
