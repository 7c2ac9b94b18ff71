"""What a journal kept is what comes back, or nothing."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from easyep.artifacts.journal import Journal, journal
from easyep.errors import OutputError
from tests.records import routed_tokens

ARRAYS = routed_tokens(tokens=5).arrays()


def kept(folder: Path) -> tuple[set[int], list[int]]:
    with journal(folder / "seen", "key") as found:
        return found.done, found.layers()


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    with journal(tmp_path / "seen", "key") as new:
        new.add([0, 1], {1: ARRAYS, 2: ARRAYS})
        new.add_layer(3, ARRAYS)
    return sorted(tmp_path.rglob("*.safetensors"))


def test_what_was_kept_comes_back(tmp_path: Path, parts: list[Path]) -> None:
    assert len(parts) == 2
    assert kept(tmp_path) == ({0, 1}, [1, 2, 3])
    with journal(tmp_path / "seen", "key") as found:
        for layer in (1, 2, 3):
            (part,) = found.parts(layer)
            assert part.keys() == ARRAYS.keys()
            assert all(np.array_equal(part[name], ARRAYS[name]) for name in part)


@pytest.mark.parametrize("error", [OutputError, ValueError, KeyboardInterrupt])
def test_a_run_that_kept_nothing_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    beside = tmp_path / "new" / "folder" / "seen"

    def run(begin: Callable[[Journal], object]) -> None:
        with pytest.raises(error), journal(beside, "key") as begun:
            raise begin(begun) or error("no more")

    run(lambda begun: None)
    assert not list(tmp_path.iterdir())
    run(lambda begun: begun.file("state").mkdir())
    assert list(beside.parent.glob(".seen.key.part/state"))
    run(lambda begun: begun.add([0], {1: ARRAYS}))
    assert kept(beside.parent) == ({0}, [1])


def test_two_runs_at_once(tmp_path: Path) -> None:
    with journal(tmp_path / "seen", "key"):
        for _ in range(2):  # the one that comes late leaves the other's folder alone
            with pytest.raises(OutputError, match="another run writes the observations"):
                kept(tmp_path)
    assert kept(tmp_path) == (set(), [])


def test_a_file_system_without_locks_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[Path]
) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", without)
    assert kept(tmp_path) == ({0, 1}, [1, 2, 3])


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9, -1])
def test_a_bit_that_turned_is_noticed(tmp_path: Path, parts: list[Path], place: float) -> None:
    for path in parts:
        content = bytearray(path.read_bytes())
        content[int(place * len(content)) if place > 0 else -1] ^= 1
        path.write_bytes(content)
    assert kept(tmp_path) == (set(), [])


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_other_files_are_no_parts(tmp_path: Path, parts: list[Path], content: bytes) -> None:
    parts[0].write_bytes(content)
    assert kept(tmp_path) == (set(), [3])


@pytest.mark.timeout(60, method="thread")
def test_what_is_no_file_is_no_part(tmp_path: Path, parts: list[Path]) -> None:
    """A pipe would be waited for."""
    os.mkfifo(parts[0].with_name("00000007.safetensors"))
    parts[0].with_name("00000008.safetensors").mkdir()
    assert kept(tmp_path) == ({0, 1}, [1, 2, 3])


def test_links_lead_nowhere(tmp_path: Path, parts: list[Path]) -> None:
    """A work directory can be another's, and a link in it lead to something of the user's."""
    mine = tmp_path / "mine"
    (mine / "layer-00001").mkdir(parents=True)
    (mine / "model.safetensors").write_bytes(b"mine")
    folder = parts[0].parent
    (folder / "state").symlink_to(mine)
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(tmp_path / "made")
    assert kept(tmp_path) == ({0, 1}, [1, 2, 3])
    assert not (folder / "state").exists()
    assert not (tmp_path / "made").exists()
    folder.rename(tmp_path / "away")
    folder.symlink_to(mine)
    with pytest.raises(OutputError, match="is a link, not a folder of easyep"):
        kept(tmp_path)
    assert (mine / "model.safetensors").read_bytes() == b"mine"
    assert (mine / "layer-00001").is_dir()
