"""The same choices make the same bytes, wherever and however they are carried out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import easyep

CHOICES = {"domain": "math", "n_demos": 4, "mtp": "drop", "dtype": "float32", "device": "cpu"}

# Folders list their files in an order that the file system is free to choose.
PRUNE = """
import json, os, sys
if sys.argv[2] == "reversed":
    listdir, scandir = os.listdir, os.scandir
    os.listdir = lambda *a: sorted(listdir(*a), reverse=True)

    class Listing:
        def __init__(self, *where):
            with scandir(*where) as found:
                self.left = sorted(found, key=lambda entry: entry.name)
        def __iter__(self):
            return self
        def __next__(self):
            if not self.left:
                raise StopIteration
            return self.left.pop()
        def __enter__(self):
            return self
        def __exit__(self, *error):
            pass
        def close(self):
            pass

    os.scandir = Listing
import easyep
easyep.prune("demo", output=sys.argv[1], **json.loads(sys.argv[3]))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def prune(output: Path, order: str, umask: int, **surroundings: str) -> dict[str, bytes]:
    """What a process of its own writes in other surroundings."""
    subprocess.run(
        [sys.executable, "-c", PRUNE, str(output), order, json.dumps(CHOICES)],
        check=True,
        umask=umask,
        env={**os.environ, **surroundings},
    )
    return contents(output)


@pytest.mark.slow
def test_surroundings_make_no_difference(tmp_path: Path) -> None:
    first = prune(
        tmp_path / "a", "as it is", 0o022, PYTHONHASHSEED="1", LC_ALL="C", TZ="Pacific/Apia"
    )
    second = prune(
        tmp_path / "b", "reversed", 0o077, PYTHONHASHSEED="2", LC_ALL="C.UTF-8", TZ="Asia/Tokyo"
    )
    assert first == second
    assert {"config.json", "easyep.json", "README.md"} < first.keys()
    assert (tmp_path / "a" / "config.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "b" / "config.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_the_way_makes_a_difference_to_the_recipe_only(tmp_path: Path) -> None:
    ways = {"usual": {}, "batches": {"batch_size": 3}, "stream": {"runner": "stream"}}
    made, shares = {}, {}
    for name, way in ways.items():
        easyep.prune("demo", output=tmp_path / name, **CHOICES, **way)
        made[name] = contents(tmp_path / name)
        manifest = json.loads(made[name]["easyep.json"])
        manifest["recipe"] |= {"batch_size": None, "runner": None}
        # Sums in another order differ in their last digits.
        shares[name] = manifest.pop("retained_share")
        made[name]["easyep.json"] = json.dumps(manifest).encode()
    for name in ("batches", "stream"):
        assert made[name] == made["usual"]
        assert shares[name] == pytest.approx(shares["usual"], rel=1e-5)
