"""Room that is reserved, and file systems that cannot reserve."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from easyep.checkpoint import disk
from easyep.checkpoint.disk import reserve, start_writing


def test_reserved_room_is_taken_from_the_disk(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        reserve(file.fileno(), 3_000_000)
        status = os.fstat(file.fileno())
    assert status.st_size == 3_000_000 or status.st_blocks == 0  # the file system cannot
    assert status.st_blocks * 512 >= status.st_size


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(disk, "_fallocate", lambda *_: -1)
    monkeypatch.setattr("ctypes.get_errno", lambda: code)
    with pytest.raises(OSError, match=os.strerror(code)):
        reserve(1, 10)


def test_the_system_s_own_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk._function("no_such_function_anywhere") is None
    monkeypatch.setattr(disk, "_fallocate", disk._function("fallocate"))
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        reserve(-1, 10)


def test_file_systems_and_systems_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_fallocate", lambda *_: -1)
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.EOPNOTSUPP)
    reserve(1, 10)
    monkeypatch.setattr(disk, "_fallocate", None)
    monkeypatch.setattr(disk, "_sync_file_range", None)
    reserve(1, 10)
    start_writing(1, 0, 10)


def test_an_interrupted_call_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [-1, -1, 0]
    monkeypatch.setattr(disk, "_fallocate", lambda *_: results.pop(0))
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.EINTR)
    reserve(1, 10)
    assert results == []


def test_the_system_is_told_where_to_begin_and_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int, int, int]] = []

    def call(descriptor: int, begin: Any, length: Any, flags: int) -> None:
        calls.append((descriptor, begin.value, length.value, flags))

    monkeypatch.setattr(disk, "_sync_file_range", call)
    start_writing(7, 5_000_000_000, 5_000_000_300)
    assert calls == [(7, 5_000_000_000, 300, 2)]  # SYNC_FILE_RANGE_WRITE


def test_written_bytes_stay(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb", buffering=0) as file:
        file.write(bytes(range(200)) * 100)
        start_writing(file.fileno(), 0, 20_000)
    assert (tmp_path / "file").read_bytes() == bytes(range(200)) * 100
