"""Answers that an interrupted evaluation goes on with."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from easyep.errors import OutputError
from easyep.evaluation.kept_answers import KeptAnswers

GIVEN = {"a": "forty-two", "b": [-1.5, True], "c": "\ud800\n'"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with `GIVEN`, closed."""
    place = tmp_path / "answers.db"
    with closing(KeptAnswers(place)) as kept:
        for question, answer in GIVEN.items():
            kept[question] = answer
    return place


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        for each in statements:
            file.execute(each)


def test_they_are_there_again(path: Path) -> None:
    with closing(KeptAnswers(path)) as kept:
        assert {question: kept[question] for question in GIVEN} == GIVEN
        assert "d" not in kept
        kept["a"] = "another"
    with closing(KeptAnswers(path)) as kept:
        assert kept["a"] == "another"


@pytest.mark.parametrize(
    "set_", ["answer = '\"forty-three\"'", "answer = x'00'", "sha256 = ''", "question = 'd'"]
)
def test_a_changed_answer_is_asked_again(path: Path, set_: str) -> None:
    change(path, f"update answers set {set_} where question = 'a'")
    with closing(KeptAnswers(path)) as kept:
        assert "a" not in kept
        assert "d" not in kept
        with pytest.raises(KeyError):
            kept["a"]
        assert kept["b"] == GIVEN["b"]


NUMBERS = "with recursive n(i) as (select 1 union all select i + 1 from n) select"
VIEW = f"create view answers as {NUMBERS} i question, i answer, i sha256 from n"
TRIGGER = f"create trigger t after insert on answers begin {NUMBERS} max(i) from n; end"


@pytest.mark.parametrize(
    "statements",
    [
        ("drop table answers", VIEW),
        (TRIGGER,),
        ("drop table answers", "create table answers (question)"),
        ("create table more (a)",),
    ],
    ids=["a view", "a trigger", "other columns", "another table"],
)
def test_another_database_is_begun_anew(path: Path, statements: tuple[str, ...]) -> None:
    change(path, *statements)
    with closing(KeptAnswers(path)) as kept:
        assert "a" not in kept
        kept["a"] = 1
        assert kept["a"] == 1


@pytest.mark.parametrize("damage", ["no database", "half", "zeros"])
def test_a_damaged_file_is_begun_anew(path: Path, damage: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "no database": b"{}" * 600,
            "half": content[:middle],
            "zeros": content[:100] + bytes(len(content) - 100),
        }[damage]
    )
    with closing(KeptAnswers(path)) as kept:
        assert "a" not in kept
        kept["a"] = 1
        assert kept["a"] == 1


def test_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "folder", tmp_path / "none" / "answers.db"):
        with pytest.raises(OutputError, match=f"cannot be kept in {place}"):
            KeptAnswers(place)


FILLED = """
import resource, signal, sys
from pathlib import Path
from easyep.errors import OutputError
from easyep.evaluation.kept_answers import KeptAnswers
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
kept = KeptAnswers(Path(sys.argv[1]))
try:
    for i in range(1000):
        kept[str(i)] = "x" * 1000
except OutputError as error:
    print(i, error)
"""


def test_a_full_disk_is_told_and_what_was_kept_stays(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    done = subprocess.run(
        [sys.executable, "-c", FILLED, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    number, _, said = done.stdout.partition(" ")
    assert said.startswith(f"answers cannot be kept in {path}")
    assert "remove that file" in said
    with closing(KeptAnswers(path)) as kept:
        assert 0 < int(number) < 30
        assert all(kept[str(i)] == "x" * 1000 for i in range(int(number)))
        assert number not in kept
