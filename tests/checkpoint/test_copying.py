"""Ranges of bytes, and the files that they are read from."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from easyep.checkpoint import copying
from easyep.checkpoint.copying import Range, Sources, merged
from easyep.checkpoint.files import Checkpoint
from easyep.errors import CheckpointError
from tests.checkpoint.raw_files import deepseek_fp8, tensor, write_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint.open(deepseek_fp8(tmp_path / "m"))


def sources(checkpoint: Checkpoint) -> Sources:
    return Sources(checkpoint.path, checkpoint.shards.values())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_ranges_that_follow_on_from_each_other_become_one() -> None:
    a, b = "a", "b"
    assert list(merged([Range(a, 0, 2), Range(a, 2, 5), Range(a, 5, 6)])) == [Range(a, 0, 6)]
    apart = [Range(a, 0, 2), Range(a, 3, 5), Range(b, 5, 6), Range(b, 2, 5)]
    assert list(merged(apart)) == apart
    empty = Range(a, 9, 9)
    assert list(merged([empty, Range(a, 0, 2), empty, Range(a, 2, 3)])) == [Range(a, 0, 3)]
    assert list(merged([empty])) == []
    assert list(merged([])) == []


def test_what_is_read_is_what_lies_there(checkpoint: Checkpoint) -> None:
    first, second, *_ = checkpoint.shards
    whole = {name: (checkpoint.path / name).read_bytes() for name in (first, second)}
    ranges = [Range(second, 7, 900), Range(first, 3, 3), Range(first, 1, 40)]
    with sources(checkpoint) as opened:
        assert opened.read(ranges) == whole[second][7:900] + whole[first][1:40]
        assert opened.read([]) == b""


def test_a_call_that_reads_less_is_made_again(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Callable[..., int] = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, at: read(file, [buffers[0][:7]], at))
    name = next(iter(checkpoint.shards))
    with sources(checkpoint) as opened:
        expected = (checkpoint.path / name).read_bytes()[5:105]
        assert opened.read([Range(name, 5, 105)]) == expected


def test_a_disk_that_cannot_read_is_one_error(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    name = next(iter(checkpoint.shards))
    with (
        sources(checkpoint) as opened,
        pytest.raises(CheckpointError, match=f"{name} cannot be read: Input/output error"),
    ):
        opened.read([Range(name, 0, 1)])


@pytest.mark.parametrize("ahead", [True, False])
def test_a_file_that_cannot_be_opened_is_one_error(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    def full(*_: object) -> int:
        raise OSError(24, "Too many open files")

    name = next(iter(checkpoint.shards))
    with sources(checkpoint) as opened:
        monkeypatch.setattr(os, "open", full)
        with pytest.raises(CheckpointError, match=f"{name} cannot be read: Too many open files"):
            opened.expect(Range(name, 0, 1)) if ahead else opened.read([Range(name, 0, 1)])


def test_a_file_that_ends_early_is_one_error(checkpoint: Checkpoint) -> None:
    name = next(iter(checkpoint.shards))
    size = checkpoint.shards[name].size
    with (
        sources(checkpoint) as opened,
        pytest.raises(CheckpointError, match="became shorter while it was read"),
    ):
        opened.read([Range(name, size - 1, size + 1)])


def test_a_file_of_another_size_is_refused(checkpoint: Checkpoint) -> None:
    name = next(iter(checkpoint.shards))
    size = checkpoint.shards[name].size
    with open(checkpoint.path / name, "ab") as file:
        file.write(b"x")
    with (
        sources(checkpoint) as opened,
        pytest.raises(CheckpointError, match=f"changed from {size} to {size + 1} bytes"),
    ):
        opened.read([Range(name, 0, 1)])


def test_a_few_files_are_open_at_a_time_and_the_one_used_last_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [{f"tensor.{number}": tensor("U8", 9)} for number in range(3)]
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "m", {"model_type": "any"}, *shards))
    monkeypatch.setattr(copying, "MAX_OPEN", 2)
    opens: list[str] = []
    real: Callable[..., int] = os.open

    def opening(path: Path, flags: int) -> int:
        opens.append(path.name)
        return real(path, flags)

    first, second, third = checkpoint.shards
    before = open_files()
    with sources(checkpoint) as opened:
        monkeypatch.setattr(os, "open", opening)
        for name in (first, second, first, third, first, second):
            opened.read([Range(name, 0, 1)])
            assert open_files() <= before + 2
    assert opens == [first, second, third, second]
    assert open_files() == before


@pytest.mark.parametrize("advice", [True, False])
def test_reading_ahead_is_asked_for_where_there_is_such_a_call(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, advice: bool
) -> None:
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *what: asked.append(what), raising=False)
    if not advice:
        monkeypatch.delattr(os, "posix_fadvise")
    name = next(iter(checkpoint.shards))
    with sources(checkpoint) as opened:
        opened.expect(Range(name, 10, 30))
        assert len(opened.read([Range(name, 10, 30)])) == 20
    random, soon = (0, 0, os.POSIX_FADV_RANDOM), (10, 20, os.POSIX_FADV_WILLNEED)
    assert asked == ([random, soon] if advice else [])
