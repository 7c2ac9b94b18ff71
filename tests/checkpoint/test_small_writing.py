"""Files beside the weights."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint import small_writing
from easyep.checkpoint.copying import BUFFER_BYTES
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.small_writing import as_json, check_extra, copy_small, write_small
from easyep.errors import CheckpointError, OutputError
from tests.checkpoint.raw_files import deepseek_fp8

Chooser = Callable[..., Selection]


@pytest.mark.parametrize("size", [0, 1, BUFFER_BYTES, 2 * BUFFER_BYTES + 1])
def test_a_copy_is_whole_and_its_hash_that_of_the_source(tmp_path: Path, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    (tmp_path / "a").write_bytes(data)
    copied = tmp_path / "deep" / "er" / "b"
    sha256 = copy_small(tmp_path / "a", copied, tmp_path)
    assert copied.read_bytes() == data
    assert sha256 == hashlib.sha256(data).hexdigest()
    written = tmp_path / "new" / "er" / "c"
    assert write_small(written, data, tmp_path) == sha256
    assert written.read_bytes() == data


def test_files_are_on_disk_before_anything_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((status.st_ino, status.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "a").write_bytes(b"12345")
    copy_small(tmp_path / "a", tmp_path / "b", tmp_path)
    write_small(tmp_path / "c", b"123", tmp_path)
    inodes = [(tmp_path / name).stat().st_ino for name in ("b", "c")]
    assert synced == [(inodes[0], 5), (inodes[1], 3)]


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    with pytest.raises(OutputError, match="exists"):
        copy_small(tmp_path / "a", tmp_path / "b", tmp_path)
    with pytest.raises(OutputError, match="exists"):
        write_small(tmp_path / "b", b"c", tmp_path)
    assert (tmp_path / "b").read_bytes() == b"b"


def test_a_file_that_cannot_be_read_is_one_error(
    choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = deepseek_fp8(tmp_path / "m")
    (path / "LICENSE").write_text("as you like")
    real = open

    def broken(file: Any, *arguments: Any, **options: Any) -> Any:
        if Path(file) == path / "LICENSE":
            raise PermissionError(13, "Permission denied")
        return real(file, *arguments, **options)

    monkeypatch.setattr(small_writing, "open", broken, raising=False)
    with pytest.raises(CheckpointError, match="LICENSE cannot be read: Permission denied"):
        rewrite(path, choose(path), tmp_path / "out", max_shard_size=10**9)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "a/b", "/a", "..", "."])
def test_further_files_have_plain_names(name: str) -> None:
    with pytest.raises(OutputError, match=f"extra file {name!r} must be a plain file name"):
        check_extra({name: b""}, set())


def test_further_files_replace_none_of_easyep_s() -> None:
    check_extra({"notes.md": b""}, {"config.json"})
    with pytest.raises(OutputError, match=r"'config.json' is written by the rewriter itself"):
        check_extra({"notes.md": b"", "config.json": b""}, {"config.json"})


def test_json_is_written_with_its_letters() -> None:
    assert as_json({"a": "é", "b": [1]}) == '{\n  "a": "é",\n  "b": [\n    1\n  ]\n}\n'.encode()
    assert as_json({"a": "\ud800"}) == b'{\n  "a": "\\ud800"\n}\n'
