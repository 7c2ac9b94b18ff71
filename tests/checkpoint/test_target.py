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
    """But for the manifest, which is not known before."""
    model, extra = deepseek_fp8(tmp_path / "m"), {"notes.md": b"x" * 1000}
    selection, written = choose(model), tmp_path / "written"
    rewrite(model, selection, written, extra_files=extra)
    needed = sum(each.stat().st_size for each in written.iterdir() if each.name != "easyep.json")
    for missing in (1, 0):
        free = needed + SPARE_BYTES - missing
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        target = tmp_path / f"out-{missing}"
        if missing:
            with pytest.raises(OutputError, match=r"out-1 needs .* [GM]B are free"):
                rewrite(model, selection, target, extra_files=extra)
        else:
            rewrite(model, selection, target, extra_files=extra)
        assert target.exists() == (not missing)
