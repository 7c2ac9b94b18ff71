"""Where a checkpoint may be written, and whether there is room for it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.target import SPARE_BYTES, check_room, check_target
from easyep.checkpoint.work_folder import work_folder
from easyep.errors import NoRoomError, OutputError
from tests.checkpoint.raw_files import deepseek_fp8


def test_room_for_every_file_is_asked_for_and_no_more(
    choose: Callable[..., Selection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the manifest, which is not known before; what another run left does not count."""
    model, extra = deepseek_fp8(tmp_path / "m"), {"notes.md": b"x" * 1000}
    selection, written = choose(model), tmp_path / "written"
    rewrite(model, selection, written, extra_files=extra)
    needed = sum(each.stat().st_size for each in written.iterdir() if each.name != "easyep.json")

    def start(name: str, free: int) -> None:
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        rewrite(model, selection, tmp_path / name, extra_files=extra)

    left = tmp_path / ".out.partial-0123456789ab"
    for _ in range(2):
        with pytest.raises(OutputError, match=r"out needs .* [GM]B are free"):
            start("out", needed + SPARE_BYTES - 1)
        assert not (tmp_path / "out").exists()
        left.mkdir(exist_ok=True)
        (left / "of-another-run").write_bytes(b"x" * 1_000_000)
    start("out", needed + SPARE_BYTES)
    assert (tmp_path / "out" / "easyep.json").is_file()


def test_what_the_same_target_was_given_before_is_room_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / ".out.partial-0123456789ab"
    left.mkdir()
    (left / "file").write_bytes(b"x" * 50_000)
    blocks = (left / "file").stat().st_blocks
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000 + SPARE_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    room = 1_000_000 + 512 * blocks
    assert check_target(tmp_path / "out", tmp_path / "m", room) == tmp_path / "out"
    with pytest.raises(NoRoomError):
        check_target(tmp_path / "out", tmp_path / "m", room + 1)


def test_a_target_that_is_being_written_is_refused(tmp_path: Path) -> None:
    with (
        work_folder(tmp_path / "out", {}),
        pytest.raises(OutputError, match="another run"),
    ):
        check_target(tmp_path / "out", tmp_path / "m", 1)


@pytest.mark.parametrize(
    ("needed", "told"), [(99_900_000, "99.9 MB"), (100_000_000, "0.10 GB"), (10**12, "1000.00 GB")]
)
def test_sizes_are_told_in_one_unit_or_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: int, told: str
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoRoomError, match=f"needs {told}, but only 0.0 MB are free"):
        check_room(tmp_path / "out", needed)
