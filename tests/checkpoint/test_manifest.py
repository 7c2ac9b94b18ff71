"""What a manifest says, and which of it others may say."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint.manifest import Manifest, easyep_version, manifest_document
from easyep.errors import ArtifactError, OutputError
from tests.records import MODEL

CHOSEN = Selection(MODEL, 4, 2, "flatten", "easy-ep", {1: (0, 2)})


def document(**more: Any) -> dict[str, Any]:
    return manifest_document(MODEL, CHOSEN, "drop", more)


def write(folder: Path, value: dict[str, Any]) -> None:
    (folder / "easyep.json").write_text(json.dumps(value))


def test_its_own_entries_and_others() -> None:
    assert document(recipe={"seed": 3}) == {
        "schema": 1,
        "easyep": easyep_version(),
        "source": MODEL.to_json(),
        "selection": CHOSEN.to_json(),
        "mtp": "drop",
        "checksums": {},
        "recipe": {"seed": 3},
    }


def test_what_may_be_said_otherwise() -> None:
    """The version of easyep, and what the source is called."""
    assert document(easyep="9.9")["easyep"] == "9.9"
    renamed = {**MODEL.to_json(), "name": "another name"}
    assert document(source=renamed)["source"] == renamed
    assert document(mtp="drop", selection=CHOSEN.to_json(), checksums={}) == document()


@pytest.mark.parametrize(
    "more",
    [
        {"mtp": "score"},
        {"schema": 2},
        {"checksums": {"a": "b"}},
        {"source": {**MODEL.to_json(), "model_type": "mixtral"}},
        {"source": "made-up"},
        {"selection": {}},
    ],
    ids=str,
)
def test_what_may_not(more: dict[str, Any]) -> None:
    (key,) = more
    with pytest.raises(OutputError, match=f"entry '{key}' is easyep's own"):
        document(**more)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path, document(checksums={}))
    found = Manifest.load(tmp_path)
    assert found == Manifest(MODEL, CHOSEN, "drop", {})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"checksums": []}, "'checksums' and 'selection' must be objects"),
        ({"selection": []}, "'checksums' and 'selection' must be objects"),
        ({"selection": None}, "'checksums' and 'selection' must be objects"),
        ({"mtp": "other"}, "'mtp' must be one of score, follow, drop"),
        ({"mtp": None}, "'mtp' must be one of"),
        ({"schema": 7}, "schema"),
        ({"source": 3}, "cannot be used"),
    ],
    ids=str,
)
def test_manifests_that_are_none(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    write(tmp_path, {**document(), **entry})
    with pytest.raises(ArtifactError, match=message):
        Manifest.load(tmp_path)


def test_a_version_that_is_not_installed_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert easyep_version() == "unknown"
