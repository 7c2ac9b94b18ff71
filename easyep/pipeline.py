"""The order of the stages; each function here is a command, with the same names and defaults."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyep import calibration, scoring, selection
from easyep.architectures.router import Router
from easyep.artifacts import Observations, Scores, Selection
from easyep.artifacts.files import read_json_list
from easyep.atomic import check_absent
from easyep.checkpoint import rewriting, verification
from easyep.criteria import CRITERIA
from easyep.errors import ArtifactError, DemosError
from easyep.models import resolve
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.report.model_card import model_card
from easyep.selection import from_mask
from easyep.source import Source

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Planned:
    """What `prune` would do.

    Attributes:
        router: the model's routing dimensions.
        keep: experts that each layer would keep.
        rewriting: bytes before and after, output shards.
        demos: domain -> number of demonstrations and of tokens.
    """

    router: Router
    keep: int
    rewriting: rewriting.Plan
    demos: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Pruned:
    """What `prune` did.

    Attributes:
        path: the pruned checkpoint.
        selection: the experts that were kept.
        scores: what they were chosen by.
        observations: one per domain.
        rewritten: bytes, tensors and shards.
        verification: the checks of the output against its source.
        seconds: wall time by stage.
    """

    path: Path
    selection: Selection
    scores: Scores
    observations: tuple[Observations, ...]
    rewritten: rewriting.Rewritten
    verification: verification.Verification
    seconds: dict[str, float]


def plan(model: PathLike, *, output: PathLike | None = None, **choices: Any) -> Planned:
    """Everything that `prune` checks before it reads a weight, and what it would write.

    Args:
        model: a directory, a short name, or a repository id.
        output: where `prune` would write.
        choices: the fields of `Recipe`.

    Raises:
        EasyEPError: a subclass says why `prune` could not work.
    """
    recipe = Recipe(model=os.fspath(model), **choices)
    source = Source.open(model)
    keep, planned = _plan(recipe, source, output)
    demos = {}
    for domain in calibration.domains(recipe, source):
        sequences = calibration.token_sequences(recipe, source, domain)
        demos[domain.name] = {"demos": len(sequences), "tokens": sum(map(len, sequences))}
    return Planned(source.router, keep, planned, demos)


def prune(
    model: PathLike,
    *,
    output: PathLike,
    work_dir: PathLike | None = None,
    progress: Progress = SILENT,
    **choices: Any,
) -> Pruned:
    """The whole way: observe, score, select, rewrite, verify.

    Args:
        model: a directory, a short name, or a repository id.
        output: a directory that does not exist yet.
        work_dir: where the stages save what they have; the same call goes on from there.
        choices: the fields of `Recipe`.

    Raises:
        EasyEPError: a subclass says what is wrong; nothing is left under `output`.
    """
    recipe = Recipe(model=os.fspath(model), **choices)
    work = Path(work_dir) if work_dir is not None else None
    clock = _Clock()
    source = Source.open(model)
    _plan(recipe, source, output)
    clock.lap("check")
    observed = calibration.calibrate(recipe, source, work_dir=work, progress=progress)
    clock.lap("observe")
    scores, chosen = decide(recipe, observed)
    if work is not None:
        scores.save(work / "scores.json")
        chosen.save(work / "selection.json")
    clock.lap("select")
    facts = {
        "recipe": recipe.to_json(),
        "observations": [dict(origin) for origin in scores.observations],
        "retained_share": selection.retained_share(scores, chosen),
    }
    rewritten = _rewrite(source, chosen, output, recipe.mtp, facts, progress)
    clock.lap("rewrite")
    verified = verification.verify(Path(output), source.model.path, progress=progress)
    clock.lap("verify")
    return Pruned(Path(output), chosen, scores, tuple(observed), rewritten, verified, clock.seconds)


def decide(recipe: Recipe, observed: Sequence[Observations]) -> tuple[Scores, Selection]:
    """Scores and selection of a recipe, from one observation per domain in its order."""
    each = [
        scoring.score(domain, recipe.criterion, tokens=recipe.tokens, seed=recipe.seed)
        for domain in observed
    ]
    scores = scoring.mix(each, recipe.weights)
    return scores, selection.select(scores, recipe.keep, groups=recipe.groups, align=recipe.align)


def observe(
    model: PathLike,
    *,
    domain: str | None = None,
    demos: PathLike | None = None,
    output: PathLike | None = None,
    progress: Progress = SILENT,
    **choices: Any,
) -> Observations:
    """Run the model on one domain's demonstrations and record what its routed experts did.

    Args:
        model: a directory, a short name, or a repository id.
        domain: the name of a domain (`easyep list domains`), or
        demos: a JSONL file of demonstrations.
        output: a directory to save the observations in.
        choices: n_demos, max_length, demo_order, seed, mtp, runner, device, dtype, batch_size and
            trust_remote_code as in `Recipe`.

    Raises:
        EasyEPError: a subclass says what is wrong with the model or the demonstrations.
    """
    if (domain is None) == (demos is None):
        raise DemosError("give either a domain or a file of demonstrations")
    recipe = Recipe(
        model=os.fspath(model),
        domain=(domain,) if domain is not None else (),
        demos=(os.fspath(demos),) if demos is not None else (),
        **choices,
    )
    if output is not None:
        check_absent(output)
    (observations,) = calibration.calibrate(recipe, Source.open(model), progress=progress)
    if output is not None:
        observations.save(output)
    return observations


def rewrite(
    model: PathLike,
    selection: Selection | PathLike,
    output: PathLike,
    *,
    mtp: str = "score",
    progress: Progress = SILENT,
) -> rewriting.Rewritten:
    """Write the checkpoint that has only the selected experts.

    Args:
        model: a directory, a short name, or a repository id: the model that was observed.
        selection: which experts to keep, or the file that it was saved in.
        output: a directory that does not exist yet.
        mtp: as in `Recipe`.

    Raises:
        EasyEPError: a subclass says why nothing was written.
    """
    chosen = selection if isinstance(selection, Selection) else Selection.load(selection)
    return _rewrite(Source.open(model), chosen, output, mtp, {}, progress)


def verify(
    path: PathLike, source: PathLike | None = None, *, progress: Progress = SILENT
) -> verification.Verification:
    """Check a pruned checkpoint; with its `source`, compare it byte by byte.

    Args:
        path: the pruned checkpoint.
        source: the model that it was made from: a directory, a short name, or a repository id.
    """
    original = resolve(os.fspath(source)).path if source is not None else None
    return verification.verify(Path(path), original, progress=progress)


def read_mask(path: PathLike, model: PathLike) -> Selection:
    """A selection from a JSON file with one list of 0/1 per MoE layer.

    Raises:
        ArtifactError: the file is not such a list.
        SelectionError: it does not fit the model.
    """
    source = Source.open(model)
    # The form that the authors of EASY-EP publish.
    mask = read_json_list(path, "mask")
    return from_mask(mask, source.layout.moe_layers, source.identity, source.router)


def check_scores(scores: Scores, model: PathLike) -> None:
    """Raises ArtifactError unless the scores are of this model."""
    source = Source.open(model)
    if not scores.model.same_model(source.identity):
        raise ArtifactError(
            f"the scores are of {scores.model.name} ({scores.model.model_type}), not of {model}: "
            "their configs or tensors differ"
        )


def _rewrite(
    source: Source,
    chosen: Selection,
    output: PathLike,
    mtp: str,
    facts: dict[str, Any],
    progress: Progress,
) -> rewriting.Rewritten:
    card = model_card(source.model.name, source.checkpoint.config, chosen, facts)
    return rewriting.rewrite(
        source.checkpoint,
        chosen,
        Path(output),
        mtp=mtp,
        manifest={"source": source.identity.to_json(), **facts},
        extra_files={"README.md": card.encode()},
        progress=progress,
    )


def _plan(recipe: Recipe, source: Source, output: PathLike | None) -> tuple[int, rewriting.Plan]:
    """Plan with stand-ins for the experts to come: bytes and limits depend on their number only."""
    CRITERIA[recipe.criterion]  # an unknown name is an error now, not after the observation
    calibration.domains(recipe, source)
    router = source.router
    keep = selection.keep_count(recipe.keep, router, groups=recipe.groups, align=recipe.align)
    n_group = router.n_group if recipe.groups == "balanced" else 1
    size = router.num_experts // n_group
    stand_in = Selection(
        model=source.identity,
        num_experts=router.num_experts,
        keep=keep,
        groups=recipe.groups,
        criterion=recipe.criterion,
        layers=dict.fromkeys(
            [*source.layout.moe_layers, *source.layout.mtp_layers],
            tuple(g * size + i for g in range(n_group) for i in range(keep // n_group)),
        ),
    )
    return keep, rewriting.plan(source.checkpoint, stand_in, mtp=recipe.mtp, output=output)


class _Clock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now
