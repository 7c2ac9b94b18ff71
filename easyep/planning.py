"""What a run would do: every check that needs no model, and the bytes that would be written."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from easyep import calibration, models
from easyep.architectures.engines import check_serving
from easyep.architectures.router import Router
from easyep.artifacts import Selection
from easyep.checkpoint import rewriting
from easyep.choices import optional, text
from easyep.criteria import needs_record, scores_pairs
from easyep.distributed import join
from easyep.errors import NoRoomError
from easyep.launcher import rank
from easyep.mixing import pairs_in_max_min
from easyep.places import outside_checkpoints, work_directory
from easyep.placing import usable_device
from easyep.recipe import Recipe
from easyep.runners import Share
from easyep.runners.choosing import choose_runner
from easyep.selection import check_named, check_solver, keep_count
from easyep.source import Source
from easyep.stream_probe import Forecast
from easyep.weighing import weight_bytes

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Planned:
    """What `prune` would do.

    Attributes:
        router: the model's routing dimensions.
        keep: experts that each layer would keep.
        rewriting: bytes before and after, output shards, warnings.
        demos: domain -> number of demonstrations and of tokens.
        runner: how the model would be run; empty where the criterion needs no run.
        model_bytes: of the whole model in memory, in the type that it computes in.
        forecast: what streaming it would take, if that is how it would be run.
        share: what each process reads and holds; None where there is only one, or no weights yet.
        record_bytes: what the full record of all domains takes.
        fetch_bytes: weights that are to be fetched first; 0 where they are on this machine.
        no_room: why the output does not fit on its disk, where `prune` would stop; else empty.
    """

    router: Router
    keep: int
    rewriting: rewriting.Plan
    demos: dict[str, dict[str, int]]
    runner: str
    model_bytes: int
    forecast: Forecast | None
    share: Share | None
    record_bytes: int
    fetch_bytes: int
    no_room: str


def plan(
    model: PathLike,
    *,
    output: PathLike | None = None,
    work_dir: PathLike | None = None,
    **choices: Any,
) -> Planned:
    """Everything that `prune` checks before it reads a weight, and what it would write.

    Of several processes the first plans for all, when they have met. A disk that is too small does
    not stop it: what a run would take is what one asks before buying another.

    Args:
        model: a directory, a short name, or a repository id.
        output: where `prune` would write.
        work_dir: where it would save its stages.
        choices: the fields of `Recipe`.

    Raises:
        EasyEPError: a subclass says why `prune` could not work, the room on the disk apart.
        NotFirstRankError: this process is not the first.
    """
    recipe = Recipe(model=model, **choices)  # type: ignore[arg-type]
    output = optional(text)("output", output)
    with tempfile.TemporaryDirectory(prefix="easyep-outline-") as folder:
        source = Source.of(models.outlined(recipe.model, Path(folder)))
        return _plan(recipe, source, output, work_dir)


def _plan(
    recipe: Recipe, source: Source, output: PathLike | None, work_dir: PathLike | None
) -> Planned:
    no_room = ""
    try:
        planned = check(recipe, source, output, work_dir)
    except NoRoomError as error:
        planned, no_room = check(recipe, source, None, work_dir), str(error)
    group = join(recipe.peer_timeout)
    group.leave_the_rest_to_the_first()
    usable_device(recipe.device)
    demos = {}
    runs = []
    needed = needs_record(recipe.criterion)
    runner = choose_runner(recipe, source)(recipe, source, group) if needed else None
    expected = part = None
    here = not source.model.is_outline
    if runner is not None:
        for domain, sequences in calibration.demonstrations_of(recipe, source):
            demos[domain.name] = {"demos": len(sequences), "tokens": sum(map(len, sequences))}
            runs.append(runner.run(domain.name, sequences))
        if here:
            expected = runner.forecast(runs)
            processes = group.here.size
            part = runner.share(processes, expected) if processes > 1 else None
    return Planned(
        source.router,
        planned.keep,
        planned,
        demos,
        runner.name if runner is not None else "",
        weight_bytes(source.checkpoint, recipe.dtype),
        expected,
        part,
        sum(run.plan(None).size for run in runs),
        0 if here else source.checkpoint.nbytes,
        no_room,
    )


def check(
    recipe: Recipe, source: Source, output: PathLike | None, work_dir: PathLike | None = None
) -> rewriting.Plan:
    """Check all that can be checked without the model, and plan the rewrite.

    The plan has stand-ins for the experts to come: bytes and limits depend on their number only.
    Of several processes the first looks at where it will write; the others could find its lock.

    Raises:
        EasyEPError: a subclass says what could not work.
    """
    _check_criterion(recipe, source)
    router = source.router
    keep = keep_count(recipe.keep, router, groups=recipe.groups, align=recipe.align)
    check_named(
        recipe.protect,
        recipe.forbid,
        source.scored_layers(recipe.mtp),
        router,
        keep=keep,
        groups=recipe.groups,
    )
    writes = rank().first
    warnings = check_serving(
        recipe.serving, source.architecture.engines, router, keep, recipe.groups, recipe.align
    )
    planned = rewriting.plan(
        source.checkpoint,
        stand_in(recipe, source, list(source.layout.layers)),
        mtp=source.mtp_mode(recipe.mtp),
        max_shard_size=recipe.max_shard_size,
        output=output if writes else None,
        layout=source.layout,
    )
    if writes and output is not None:
        outside_checkpoints(output)
    if writes and work_dir is not None:
        work_directory(work_dir, source.model.path, output)
    return replace(planned, warnings=(*planned.warnings, *warnings))


def stand_in(recipe: Recipe, source: Source, layers: Sequence[int]) -> Selection:
    """A selection of as many experts as the recipe keeps, the first ones (of each group).

    Raises:
        SelectionError: the router could not work with that many.
    """
    router = source.router
    keep = keep_count(recipe.keep, router, groups=recipe.groups, align=recipe.align)
    n_group = router.n_group if recipe.groups == "balanced" else 1
    size = router.num_experts // n_group
    return Selection(
        model=source.identity,
        num_experts=router.num_experts,
        keep=keep,
        groups=recipe.groups,
        criterion=recipe.criterion,
        layers=dict.fromkeys(
            layers, tuple(g * size + i for g in range(n_group) for i in range(keep // n_group))
        ),
    )


def _check_criterion(recipe: Recipe, source: Source) -> None:
    """Raises what would otherwise come after the model has run."""
    if not needs_record(recipe.criterion):
        return
    domains = calibration.domains(recipe, source)
    fair = recipe.mix == "max-min" and len(domains) > 1
    if scores_pairs(recipe.criterion) and fair:
        raise pairs_in_max_min(recipe.criterion)
    if fair or scores_pairs(recipe.criterion):
        check_solver()
