"""A folder that goes with its process, however that ends."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from easyep.errors import OutputError
from easyep.passing_folder import PassingFolder

PROGRAM = """
import os, sys, time
from pathlib import Path
from easyep.passing_folder import PassingFolder
folder = PassingFolder(Path(sys.argv[1]))
(folder.path / "weights").mkdir()
(folder.path / "weights" / "one").write_bytes(b"x" * 100)
print("made", flush=True)
if sys.argv[2] == "os._exit":
    os._exit(1)
time.sleep({"end": 0, "killed": 60}[sys.argv[2]])
"""


@pytest.mark.parametrize("how", ["end", "os._exit", "killed"])
def test_however_the_process_ends(how: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if how == "killed":
            assert list(tmp_path.glob("*/weights/one"))
            # As DeepSpeed's launcher does: what the process has started is told first.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for child in children.split():
                os.kill(int(child), signal.SIGTERM)
            process.kill()
    until = time.monotonic() + 60
    while list(tmp_path.iterdir()):
        assert time.monotonic() < until, list(tmp_path.rglob("*"))
        time.sleep(0.01)


def test_it_is_there_as_long_as_something_refers_to_it(tmp_path: Path) -> None:
    folder = PassingFolder(tmp_path)
    other = PassingFolder(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([folder.path, other.path])
    del other
    gc.collect()
    assert list(tmp_path.iterdir()) == [folder.path]
    folder.remove()
    folder.remove()
    assert not list(tmp_path.iterdir())


def test_where_none_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write .*nowhere"):
        PassingFolder(tmp_path / "nowhere")
