"""A manifest is a recipe: it makes the same bytes again."""

import json
from pathlib import Path

import pytest

from easyep.artifacts import Selection
from easyep.cli import main
from easyep.errors import ArtifactError
from easyep.pipeline import Pruned
from easyep.redoing import Made
from easyep.source import Source


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def run(*words: object) -> object:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return stop.value.code


def test_a_manifest_makes_the_same_bytes_again(pruned: Pruned, tmp_path: Path):
    again = tmp_path / "again"
    assert run("run", pruned.path / "easyep.json", "--output", again, "--quiet") == 0
    assert contents(again) == contents(pruned.path)


def changed(pruned: Pruned, folder: Path, **entries: object) -> Path:
    """A copy of the manifest with other entries; None leaves one out."""
    value = json.loads((pruned.path / "easyep.json").read_text()) | entries
    folder.mkdir()
    path = folder / "easyep.json"
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))
    return path


def test_other_versions_are_told(pruned: Pruned, tmp_path: Path):
    versions = {"torch": "0.0", "no-such-package": "1"}
    made = Made.load(changed(pruned, tmp_path / "m", versions=versions))
    assert [w.partition(" ")[0] for w in made.warnings] == ["torch", "no-such-package"]
    assert Made.load(pruned.path / "easyep.json").warnings == ()


def test_quiet_holds_no_warning_back(
    pruned: Pruned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = changed(pruned, tmp_path / "m", versions={"torch": "0.0"})
    assert run("run", path, "--dry-run", "--quiet") == 0
    assert "warning: torch is" in capsys.readouterr().err


def test_what_cannot_be_made_again(pruned: Pruned, tmp_path: Path):
    with pytest.raises(ArtifactError, match="holds no recipe"):
        Made.load(changed(pruned, tmp_path / "a", recipe=None))
    source = {**Source.open("demo").identity.to_json(), "weights_sha256": "0"}
    with pytest.raises(ArtifactError, match="the model demo is not the one"):
        Made.load(changed(pruned, tmp_path / "b", source=source))


def test_other_experts_are_told(pruned: Pruned, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    value = json.loads((pruned.path / "easyep.json").read_text())
    other = {**value["recipe"], "domain": ["code"], "n_demos": 2}
    path = changed(pruned, tmp_path / "m", recipe=other)
    assert run("run", path, "--output", tmp_path / "out") == 1
    assert "other experts were chosen" in capsys.readouterr().err
    assert isinstance(Made.load(path).selection, Selection)
