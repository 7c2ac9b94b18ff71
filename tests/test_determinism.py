"""The same choices make the same bytes, wherever and however they are carried out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import easyep

CHOICES: dict[str, Any] = {"n_demos": 4, "mtp": "drop", "dtype": "float32", "device": "cpu"}

# Folders list their files in an order that the file system is free to choose.
IN_A_PROCESS = """
import json, os, sys
if sys.argv[1] == "reversed":
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
getattr(easyep, sys.argv[2])(**json.loads(sys.argv[3]))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def process(order: str, function: str, choices: dict[str, Any], umask: int, **given: str) -> None:
    """Call a function of easyep in a process of its own, in other surroundings."""
    words = [sys.executable, "-c", IN_A_PROCESS, order, function, json.dumps(choices, default=str)]
    subprocess.run(words, check=True, umask=umask, env={**os.environ, **given}, timeout=300)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in several files: the demo model, a quarter of its experts left out."""
    path = tmp_path_factory.mktemp("source") / "model"
    easyep.prune("demo", output=path, domain="math", keep=24, max_shard_size=300_000, **CHOICES)
    assert len(list(path.glob("*.safetensors"))) > 5
    return path


@pytest.mark.slow
def test_surroundings_make_no_difference(tmp_path: Path, root: Path, source: Path) -> None:
    demos = root / "calibration_data" / "demo" / "math.jsonl"
    choices = {**CHOICES, "model": source, "demos": demos, "max_shard_size": 200_000}
    ways = {
        "a": ("as it is", 0o022, {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Pacific/Apia"}),
        "b": ("reversed", 0o077, {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"}),
    }
    for name, (order, umask, given) in ways.items():
        where = {"output": tmp_path / name, "work_dir": tmp_path / f"{name} work"}
        process(order, "prune", {**choices, **where}, umask, **given)
    first = contents(tmp_path / "a")
    assert {"config.json", "easyep.json", "README.md"} < first.keys()
    assert contents(tmp_path / "b") == first
    saved = contents(tmp_path / "a work")
    assert {"scores.json", "selection.json"} < saved.keys()
    assert contents(tmp_path / "b work") == saved
    assert (tmp_path / "a" / "config.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "b" / "config.json").stat().st_mode & 0o777 == 0o600

    again = {"recipe": tmp_path / "a" / "easyep.json", "output": tmp_path / "c"}
    process("reversed", "run", again, 0o022, PYTHONHASHSEED="3")
    assert contents(tmp_path / "c") == first


@pytest.mark.slow
def test_the_way_makes_a_difference_to_the_recipe_only(tmp_path: Path) -> None:
    ways = {"usual": {}, "batches": {"batch_size": 3}, "stream": {"runner": "stream"}}
    made, selections, shares = {}, {}, {}
    for name, way in ways.items():
        where = {"output": tmp_path / name, "work_dir": tmp_path / f"{name} work"}
        easyep.prune("demo", domain="math", **where, **CHOICES, **way)
        made[name] = contents(tmp_path / name)
        easyep.run(tmp_path / name / "easyep.json", output=tmp_path / f"{name} again")
        assert contents(tmp_path / f"{name} again") == made[name]
        selections[name] = (tmp_path / f"{name} work" / "selection.json").read_bytes()
        manifest = json.loads(made[name]["easyep.json"])
        manifest["recipe"] |= {"batch_size": None, "runner": None}
        # Sums in another order differ in their last digits.
        shares[name] = manifest.pop("retained_share")
        made[name]["easyep.json"] = json.dumps(manifest).encode()
    for name in ("batches", "stream"):
        assert made[name] == made["usual"]
        assert selections[name] == selections["usual"]
        assert shares[name] == pytest.approx(shares["usual"], rel=1e-5)


@pytest.mark.slow
def test_in_one_command_or_stage_by_stage(tmp_path: Path) -> None:
    """With files in between."""
    easyep.prune("demo", domain="math", output=tmp_path / "one", **CHOICES)
    seen = easyep.observe("demo", domain="math", **CHOICES)
    seen.save(tmp_path / "seen")
    easyep.score(tmp_path / "seen").save(tmp_path / "scores.json")
    easyep.select(tmp_path / "scores.json", keep=0.5).save(tmp_path / "selection.json")
    easyep.rewrite("demo", tmp_path / "selection.json", tmp_path / "stages", mtp="drop")
    first, second = contents(tmp_path / "one"), contents(tmp_path / "stages")
    weights = {name for name in first if name.endswith(".safetensors")}
    for name in {*weights, "config.json", "tokenizer.json", "model.safetensors.index.json"}:
        assert second[name] == first[name], name
    chosen_in_one = json.loads(first["easyep.json"])["selection"]
    assert json.loads(second["easyep.json"])["selection"] == chosen_in_one
