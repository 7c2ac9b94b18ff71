"""What a manifest says, and which of it others may say."""

from importlib import metadata
from typing import Any

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint.manifest import easyep_version, manifest_document
from easyep.errors import OutputError
from tests.records import MODEL

CHOSEN = Selection(MODEL, 4, 2, "flatten", "easy-ep", {1: (0, 2)})


def document(**more: Any) -> dict[str, Any]:
    return manifest_document(MODEL, CHOSEN, "drop", more)


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
    assert document(mtp="drop") == document()


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


def test_a_version_that_is_not_installed_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert easyep_version() == "unknown"
