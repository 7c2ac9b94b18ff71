"""Single questions about a model: what is in it, whether something fits it."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from easyep.artifacts import Scores, Selection
from easyep.artifacts.files import read_json, read_json_list
from easyep.checkpoint import inspection
from easyep.choices import text
from easyep.errors import ArtifactError
from easyep.models import outlined
from easyep.recipe import Recipe
from easyep.selection import from_mask, select
from easyep.source import Source

PathLike = str | os.PathLike[str]


def inspect(model: PathLike, keep: Sequence[float] = inspection.FRACTIONS) -> inspection.Inspection:
    """What is in a checkpoint: layers, experts, routing, formats, sizes, and what pruning saves.

    No weight is read, and of a repository that is not in the cache none is fetched.

    Args:
        model: a directory, a short name, or a repository id.
        keep: what to tell the savings of: fractions of the experts, or counts.

    Raises:
        EasyEPError: a subclass says what is wrong with it.
    """
    with tempfile.TemporaryDirectory(prefix="easyep-outline-") as folder:
        return inspection.inspect(outlined(text("model", model), Path(folder)).path, keep)


def read_mask(path: PathLike, model: PathLike, *, groups: str = Recipe.groups) -> Selection:
    """A selection from a JSON file with one list of 0/1 per MoE layer.

    That is the form that the authors of EASY-EP publish.

    Raises:
        ArtifactError: the file is not such a list.
        SelectionError: it does not fit the model.
    """
    source = Source.open(model)
    mask = read_json_list(text("mask", path), "mask")
    return from_mask(mask, source.layout.moe_layers, source.identity, source.router, groups=groups)


def selection_like(chosen: Selection, other: PathLike) -> Selection:
    """Another selection, to compare with one that was chosen.

    Args:
        chosen: the one.
        other: a file: a selection as it is, or scores, from which as many experts are chosen in
            the same group mode.

    Raises:
        ArtifactError: the file is neither.
    """
    value = read_json(other, "selection or scores")
    if "keep" in value:
        return Selection.load(other)
    return select(Scores.load(other), chosen.keep, groups=chosen.groups)


def check_scores(scores: Scores, model: PathLike) -> None:
    """Raises ArtifactError unless the scores are of this model."""
    source = Source.open(model)
    if not scores.model.same_model(source.identity):
        raise ArtifactError(
            f"the scores are of {scores.model.name} ({scores.model.model_type}), not of {model}: "
            "their configs, tensors or weights differ"
        )
