"""The model card of a pruned checkpoint, with what was measured on it."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from easyep.artifacts import ModelIdentity, Selection
from easyep.checkpoint.files import Checkpoint
from easyep.errors import ArtifactError
from easyep.presenting.coverage import kept_shares
from easyep.presenting.told import DAMAGED, Told
from easyep.reporting import measured
from easyep.reporting.model_card import model_card

Json = Mapping[str, Any]


def card(told: Told) -> str:
    """The card's text; results of other models are left out of it, and `told` says so.

    Raises:
        ArtifactError: there is no pruned checkpoint, or its manifest is damaged.
    """
    root, manifest = told.found.checkpoint, told.found.manifest
    if root is None or manifest is None:
        raise ArtifactError("a model card is of a pruned checkpoint: give its directory, too")
    try:
        return model_card(manifest, _measured(told, root, manifest))
    except DAMAGED as error:
        raise ArtifactError(
            f"{root / 'easyep.json'} is damaged: {type(error).__name__}: {error}"
        ) from None


def _measured(told: Told, root: Path, manifest: Json) -> list[str]:
    chosen = Selection.from_json(manifest["selection"])
    models = _Models(Checkpoint.open(root).identity(""), manifest)
    parts: list[str] = []
    shares = kept_shares(told.found, chosen)
    if shares:
        shown = models.shown
        parts += measured.coverage({name: (name in shown, each) for name, each in shares.items()})
    kinds: tuple[tuple[Mapping[str, Json], Callable[[_Models, Json], list[str]]], ...] = (
        (told.found.accuracies, _accuracy),
        (told.found.comparisons, _likeness),
        (told.found.throughput, _throughput),
    )
    for files, tell in kinds:
        for path, found in files.items():
            lines = told.drawn(path, partial(tell, models), found)
            if not lines and path not in told.found.left_aside:
                told.left_out[f"{path} in the card"] = (
                    "it does not hold a measurement of this checkpoint; where two models belong "
                    "to it, the other must be the model that was pruned"
                )
            parts += lines
    return parts


class _Models:
    """Which model of a result is the checkpoint, and which is the one that it came from."""

    def __init__(self, here: ModelIdentity, manifest: Json) -> None:
        self.shown = {str(each["domain"]) for each in manifest.get("observations", ())}
        self._here = here
        self._source = ModelIdentity.from_json(manifest["source"])

    def named(self, found: Json) -> tuple[str | None, str | None]:
        """Of names and identities those of the checkpoint and of its source."""
        return self._name(found, self._here), self._name(found, self._source)

    @staticmethod
    def _name(found: Json, wanted: ModelIdentity) -> str | None:
        known = ((name, each) for name, each in found.items() if each is not None)
        same = (name for name, each in known if ModelIdentity.from_json(each).same_model(wanted))
        return next(same, None)


def _accuracy(models: _Models, found: Json) -> list[str]:
    runs = {name: each for name, each in found.items() if name != "differences"}
    here, source = models.named(
        {
            name: None if each["settings"].get("masked") else each["settings"].get("model")
            for name, each in runs.items()
        }
    )
    if here is None:
        return []
    if source is None:
        return measured.accuracy(runs[here])
    differences = found.get("differences", ())
    if list(runs) == [source, here]:  # the source was evaluated against the checkpoint
        differences = [{**each, "difference": -each["difference"]} for each in differences]
    return measured.accuracy(runs[here], runs[source], differences)


def _likeness(models: _Models, found: Json) -> list[str]:
    here, source = models.named(found["settings"].get("models", {}))
    if here is None or (found["first"], found["second"]) != (source, here):
        return []
    return measured.likeness(found)


def _throughput(models: _Models, found: Json) -> list[str]:
    here, source = models.named(found.get("settings", {}).get("models", {}))
    return measured.throughput(found, here, source) if here and source else []
