"""Single questions about a model: what is in it, whether something fits it, what it can do."""

import os
from collections.abc import Sequence

from easyep.artifacts import Scores, Selection
from easyep.artifacts.files import read_json, read_json_list
from easyep.checkpoint import inspection
from easyep.errors import ArtifactError
from easyep.evaluation import accuracy
from easyep.evaluation.tasks import default_tasks
from easyep.models import resolve
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.selection import from_mask, select
from easyep.source import Source

PathLike = str | os.PathLike[str]


def inspect(model: PathLike, keep: Sequence[float] = inspection.FRACTIONS) -> inspection.Inspection:
    """What is in a checkpoint: layers, experts, routing, formats, sizes, and what pruning saves.

    Args:
        model: a directory, a short name, or a repository id.
        keep: what to tell the savings of: fractions of the experts, or counts.

    Raises:
        EasyEPError: a subclass says what is wrong with it.
    """
    return inspection.inspect(resolve(os.fspath(model)).path, keep)


def evaluate(
    model: PathLike,
    tasks: Sequence[str] | None = None,
    *,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: int = 16,
    limit: int | None = None,
    num_fewshot: int | None = None,
    trust_remote_code: bool = False,
    progress: Progress = SILENT,
) -> accuracy.Accuracy:
    """Measure accuracy with lm-evaluation-harness.

    Args:
        model: a directory, a short name, or a repository id.
        tasks: names of `eval/tasks/` or of lm-eval; by default those that easyep has for the
            model, or for the one that a pruned checkpoint came from.
        dtype, device, trust_remote_code: as in `Recipe`.
        batch_size, limit, num_fewshot: as in `easyep.evaluation.accuracy.evaluate`.

    Raises:
        EasyEPError: a subclass says what is wrong with the model or the tasks.
    """
    found = resolve(os.fspath(model))
    return accuracy.evaluate_checkpoint(
        found.path,
        tasks if tasks is not None else default_tasks(found),
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        limit=limit,
        num_fewshot=num_fewshot,
        trust_remote_code=trust_remote_code,
        title=f"Evaluating {found.name}",
        progress=progress,
    )


def read_mask(path: PathLike, model: PathLike, *, groups: str = Recipe.groups) -> Selection:
    """A selection from a JSON file with one list of 0/1 per MoE layer.

    That is the form that the authors of EASY-EP publish.

    Raises:
        ArtifactError: the file is not such a list.
        SelectionError: it does not fit the model.
    """
    source = Source.open(model)
    mask = read_json_list(path, "mask")
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
