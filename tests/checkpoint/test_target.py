"""Where a checkpoint may be written, and whether there is room for it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.target import SPARE_BYTES
from easyep.errors import OutputError
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
