"""The hidden folder that becomes a checkpoint."""

import json
import os
import platform
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from easyep.checkpoint import work_folder as module
from easyep.checkpoint.work_folder import (
    LOCK,
    STATE,
    Finished,
    WorkFolder,
    leftovers,
    refuse_other_runs,
    work_folder,
)
from easyep.errors import OutputError

PURPOSE, OTHER = {"plan": "a"}, {"plan": "b"}


def test_what_it_is_for_is_written_down_before_anything_else(tmp_path: Path) -> None:
    with work_folder(tmp_path / "out", PURPOSE) as work:
        state = json.loads((work.path / STATE).read_text())
        assert (state["purpose"], state["finished"]) == (PURPOSE, {})
        assert list(work.files.iterdir()) == []
        assert leftovers(tmp_path / "out") == [work.path]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("second", [PURPOSE, OTHER], ids=["the same", "another"])
def test_of_two_at_once_the_second_is_refused(tmp_path: Path, second: dict[str, str]) -> None:
    """Whatever was asked before: both may have looked before one of them began."""
    with work_folder(tmp_path / "out", PURPOSE) as first:
        with (
            pytest.raises(OutputError, match="another run"),
            work_folder(tmp_path / "out", second),
        ):
            pass
        assert leftovers(tmp_path / "out") == [first.path]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_lock_that_went_with_its_folder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run opens the lock, ends, and removes it before it is locked here."""
    flock = module.fcntl.flock

    def late(descriptor: int, how: int) -> None:
        (lock,) = tmp_path.glob(f".out.partial-*/{LOCK}")
        lock.unlink()
        flock(descriptor, how)

    monkeypatch.setattr(module.fcntl, "flock", late)
    with (
        pytest.raises(OutputError, match="has just ended; try again"),
        work_folder(tmp_path / "out", PURPOSE),
    ):
        pass


def cut_short(target: Path, purpose: dict[str, str], act: Callable[[WorkFolder], object]) -> None:
    with work_folder(target, purpose) as work:
        act(work)
        raise RuntimeError("cut short")


def test_what_is_forgotten_is_forgotten_on_disk(tmp_path: Path) -> None:
    with work_folder(tmp_path / "out", PURPOSE) as work:
        for name in ("a", "b"):
            (work.files / name).write_text("x")
            work.note(name, Finished(1, "s", "p"))
        work.keep_only({"b"})
        assert list(json.loads((work.path / STATE).read_text())["finished"]) == ["b"]


def test_of_whoever_was_there_before_nothing_is_told(tmp_path: Path) -> None:
    def note(work: WorkFolder) -> None:
        work.note("a", Finished(1, "s", "p"))
        (work.path / LOCK).write_text("process 1234567890 on a machine with a very long name " * 9)

    with pytest.raises(RuntimeError, match="cut short"):
        cut_short(tmp_path / "out", PURPOSE, note)
    with work_folder(tmp_path / "out", PURPOSE):
        with pytest.raises(OutputError) as error:
            refuse_other_runs(tmp_path / "out")
        assert f"another run (process {os.getpid()} on {platform.node()}) is" in str(error.value)


def test_whoever_is_there_is_told_whatever_is_written_there(tmp_path: Path) -> None:
    with work_folder(tmp_path / "out", PURPOSE) as work:
        (work.path / LOCK).write_bytes(b"somebody \xff")
        with pytest.raises(OutputError, match="another run \\(somebody \ufffd\\) is"):
            refuse_other_runs(tmp_path / "out")


def test_the_lock_is_for_nobody_else(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with work_folder(tmp_path / "out", PURPOSE) as work:
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (work.path, work.path / LOCK)]
    finally:
        os.umask(old)
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "it is no file"),
        (lambda path: path.mkdir(), "it is no file"),
        (
            lambda path: path.write_text('{"schema": 1, "purpose": {"plan": "b"}, "finished": {}}'),
            "it is of something else",
        ),
        (lambda path: path.write_text("{"), "Expecting property name"),
    ],
)
def test_a_state_that_is_none_is_refused(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    with pytest.raises(RuntimeError, match="cut short"):
        cut_short(tmp_path / "out", PURPOSE, lambda work: work.note("a", Finished(1, "s", "p")))
    (left,) = leftovers(tmp_path / "out")
    (left / STATE).unlink()
    make(left / STATE)
    with pytest.raises(OutputError, match=message), work_folder(tmp_path / "out", PURPOSE):
        pass


def test_an_error_is_not_replaced_by_one_of_cleaning_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="cut short"):
        cut_short(tmp_path / "out", PURPOSE, lambda work: shutil.rmtree(work.path))
    appear = module.appear

    def appear_alone(files: Path, target: Path) -> None:
        appear(files, target)
        shutil.rmtree(files.parent)

    monkeypatch.setattr(module, "appear", appear_alone)
    with work_folder(tmp_path / "out", PURPOSE) as work:
        (work.files / "a").write_text("x")
    assert (tmp_path / "out" / "a").read_text() == "x"


def test_only_finished_files_of_the_same_purpose_are_found_again(tmp_path: Path) -> None:
    def first(work: WorkFolder) -> None:
        for name in ("a", "b"):
            (work.files / name).write_text("x")
        work.note("a", Finished(1, "s", "p"))

    def again(work: WorkFolder) -> None:
        assert work.finished == {"a": Finished(1, "s", "p")}
        work.keep_only({"a"})
        assert [path.name for path in work.files.iterdir()] == ["a"]

    for act in (first, again):
        with pytest.raises(RuntimeError, match="cut short"):
            cut_short(tmp_path / "out", PURPOSE, act)
    (left,) = leftovers(tmp_path / "out")
    with work_folder(tmp_path / "out", OTHER) as other:
        assert not other.finished
        assert other.path != left
    assert leftovers(tmp_path / "out") == [left]
