"""No reader of a hostile file hangs, fails otherwise than promised, or does what it should not."""

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from tests.fuzzing import watching
from tests.fuzzing.cases import run
from tests.fuzzing.readers import READERS
from tests.fuzzing.watching import HangError, MisdeedError, watched

# The same files each time; benchmarks/fuzzing.py tries others.
FEW = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
MANY = settings(FEW, max_examples=100)


def _check(name: str, examples: settings) -> None:
    @examples
    @given(READERS[name].content)
    def every(content: bytes) -> None:
        run(READERS[name], content)

    every()


@pytest.mark.parametrize("name", READERS)
def test_a_few_hostile_files(name: str) -> None:
    _check(name, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_hostile_files(name: str) -> None:
    _check(name, MANY)


@pytest.mark.parametrize("name", READERS)
def test_files_that_are_right_are_among_them(name: str) -> None:
    """Or nothing behind the first check would ever be reached."""
    once = settings(MANY, max_examples=1000, phases=[Phase.generate])
    find(
        READERS[name].content, lambda content: run(READERS[name], content) == "read", settings=once
    )


def test_writing_elsewhere_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(MisdeedError, match="open"), watched(tmp_path / "inside"):
        (tmp_path / "outside").write_text("")


def test_unpickling_is_noticed(tmp_path: Path) -> None:
    import pickle

    data = pickle.dumps(Path("x"))
    with pytest.raises(MisdeedError, match="pickle"), watched(tmp_path):
        pickle.loads(data)  # noqa: S301


def test_computing_without_an_end_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute() -> None:
        while True:
            pass

    monkeypatch.setattr(watching, "SECONDS", 0.1)
    with pytest.raises(HangError), watched(tmp_path):
        compute()


def test_waiting_without_an_end_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WAITING", 1)
    with pytest.raises(HangError), watched(tmp_path):
        threading.Event().wait(60)
