"""Observations of domains: what is saved is not redone, what was begun is gone on with."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyep.artifacts import Observations, ObservedDemo, RoutedTokens
from easyep.artifacts.journal import Journal, journal
from easyep.atomic import writing
from easyep.errors import ArtifactError, ObservationError, OutputError
from easyep.progress import SILENT, Progress
from easyep.records import FullStore, RecordPlan, SumStore
from easyep.runners import Runner
from easyep.runs import Run
from easyep.streams import LayerFinished


def observe_runs(
    runs: Sequence[Run],
    runner: Runner,
    *,
    work_dir: Path | None = None,
    output: Path | None = None,
    on_layer_finished: LayerFinished | None = None,
    progress: Progress = SILENT,
) -> list[Observations]:
    """Observe domains: by layers all in one pass, else one after the other.

    In the first process of a group; the others `help_observe`.

    Args:
        runs: what, one for each domain, all by this runner.
        runner: runs the model.
        work_dir, output: where the observations are saved, as in `calibrate`.
        on_layer_finished: is told of finished layers, as in `streams.stream`; not called where
            what some runs observed is saved already.

    Raises:
        EasyEPError: a subclass says what could not be observed or saved.
    """
    found: dict[int, Observations] = {}
    begun: dict[int, _Place] = {}
    for number, run in enumerate(runs):
        place = _Place.of(run, work_dir, output)
        whole = _whole(place.saved) if place.saved is not None and output is None else None
        if whole is not None:
            found[number] = whole
        else:
            begun[number] = place
    told = on_layer_finished if len(begun) == len(runs) else None
    passes = [list(begun)] if runner.by_layers and begun else [[number] for number in begun]
    for numbers in runner.group.agree(passes):
        chosen, places = [runs[number] for number in numbers], [begun[n] for n in numbers]
        observed = _observe(chosen, places, runner, told, progress)
        found.update(zip(numbers, observed, strict=True))
    return [found[number] for number in range(len(runs))]


def help_observe(runs: Sequence[Run], runner: Runner) -> None:
    """What the other processes do while the first does `observe_runs`."""
    passes: list[list[int]] = []
    for numbers in runner.group.agree(passes):
        runner.help([runs[number] for number in numbers])


def tell_how(run: Run, runner: Runner, progress: Progress) -> None:
    """Say how many processes take part, and which layers their way leaves out."""
    processes = runner.group.here.size
    if processes > 1:
        progress.say(f"{processes} processes run, each its share of {runner.shared}")
    for layer in run.passed_over:
        progress.say(
            f"the multi-token-prediction layer {layer} is not observed by the runner "
            f"{run.runner}; it follows the last layer's choice"
        )


@dataclass(frozen=True)
class _Place:
    """Where one run's observations go.

    Attributes:
        plan: what is kept of them.
        key: names the journal.
        saved: the folder that they are saved as; None = they stay in memory.
        shared: whether other runs may save the same there.
    """

    plan: RecordPlan
    key: str
    saved: Path | None
    shared: bool

    @classmethod
    def of(cls, run: Run, work_dir: Path | None, output: Path | None) -> "_Place":
        plan = run.plan(output if output is not None else work_dir)
        key = run.key(() if plan.full else plan.criteria)
        saved = output
        if output is None and work_dir is not None:
            saved = work_dir / "observations" / f"{run.domain}-{key}"
        # Each runner goes on with what it has begun itself.
        return cls(plan, f"{key}.{run.runner}", saved, output is None)


def _observe(
    runs: Sequence[Run],
    places: Sequence[_Place],
    runner: Runner,
    on_layer_finished: LayerFinished | None,
    progress: Progress,
) -> list[Observations]:
    """Run, and save, what is not saved yet."""
    tell_how(runs[0], runner, progress)
    with ExitStack() as stack:
        journals: list[Journal | None] = []
        stores: list[FullStore | SumStore] = []
        for run, place in zip(runs, places, strict=True):
            kept, router = None, run.source.router
            if place.saved is not None:
                kept = stack.enter_context(journal(place.saved, place.key))
            journals.append(kept)
            full = place.plan.full
            stores.append(
                FullStore(router, kept) if full else SumStore(router, place.plan.criteria, kept)
            )
            progress.say(_announcement(run.domain, place.plan))
            if kept is not None and not kept.is_empty():
                progress.say(f"{run.domain}: goes on from what an earlier run recorded")
        state = journals[0].file("state") if journals[0] is not None else None
        dtype = runner.observe(
            runs, stores, state, on_layer_finished=on_layer_finished, progress=progress
        )
        observed = []
        for run, store, place, kept in zip(runs, stores, places, journals, strict=True):
            _add_unreached(run, store, progress)
            observations = _observations(run, store, dtype)
            _say_gaps(observations, progress)
            if place.saved is not None:
                _save(observations, place.saved, shared=place.shared)
                assert kept is not None
                kept.remove()
                observations = Observations.load(place.saved)
            observed.append(observations)
    return observed


def _add_unreached(run: Run, store: FullStore | SumStore, progress: Progress) -> None:
    """Second sets of experts that text does not come to have the record of no token."""
    layout, seen = run.source.layout, store.layers()
    missing = [layer for layer in layout.second_layers if layer not in seen]
    for layer in missing:
        store.add_layer(layer, RoutedTokens.none(run.source.router.top_k))
    if missing:
        progress.say(
            f"{run.domain}: the demonstrations are text, which does not reach the {layout.second} "
            f"experts of {len(missing)} layers: nothing tells which of them matter, and those with "
            "the lowest numbers are kept; --criterion router-norm chooses by weights"
        )


def _observations(run: Run, store: FullStore | SumStore, dtype: str) -> Observations:
    _check_layers(run, store.layers())
    fields: dict[str, Any] = {
        "model": run.source.identity,
        "router": run.source.router,
        "domain": run.domain,
        "demos": tuple(
            ObservedDemo(s.sha256, len(s), int(s.is_response.sum()), s.cut) for s in run.sequences
        ),
        "runner": run.runner,
        "dtype": dtype,
        "mask_ratios": run.mask_ratios,
    }
    if isinstance(store, FullStore):
        return Observations(layers=store.layers(), **fields)
    return Observations.summed(store.layers(), **fields)


def _say_gaps(observations: Observations, progress: Progress) -> None:
    """Tell of demonstrations that were cut, and of experts about which nothing is known."""
    cut = [demo.cut for demo in observations.demos if demo.cut]
    if cut:
        progress.say(
            f"{observations.domain}: {len(cut)} of {len(observations.demos)} demonstrations were "
            f"too long for the model or --max-length and lost {sum(cut):,} tokens at their ends"
        )
    unreached = {layer: len(experts) for layer, experts in observations.unreached().items()}
    if any(unreached.values()):
        most = max(unreached, key=lambda layer: unreached[layer])
        progress.say(
            f"{observations.domain}: no token reached {sum(unreached.values()):,} of "
            f"{len(unreached) * observations.router.num_experts:,} experts, "
            f"{unreached[most]} of them in layer {most}; they score 0"
        )


def _announcement(domain: str, plan: RecordPlan) -> str:
    size = f"the full record takes {plan.size / 1e6:,.1f} MB ({plan.room / 1e6:,.0f} MB are free)"
    if plan.full:
        return f"{domain}: {size}"
    return f"{domain}: {size} and is not kept, only sums for {', '.join(plan.criteria)}"


def _check_layers(run: Run, layers: Mapping[int, Any]) -> None:
    """Raises ObservationError unless every layer that the checkpoint has was run."""
    missing = sorted(set(run.layers) - set(layers))
    if missing and set(missing) <= set(run.mtp_layers):
        raise ObservationError(
            f"no token reached the MTP layer {missing[0]}: it needs demonstrations of more tokens"
        )
    if sorted(layers) != run.layers:
        raise ObservationError(
            f"the model ran MoE layers {sorted(layers)}, its checkpoint has {run.layers}"
        )


def _save(observations: Observations, saved: Path, *, shared: bool) -> None:
    """Save, unless another run on the same work directory has been faster."""
    try:
        observations.save(saved)
    except OutputError:
        if not shared or _whole(saved) is None:
            raise


def _whole(saved: Path) -> Observations | None:
    """Saved observations if they are there and can be read; what is damaged is removed."""
    if not saved.exists() and not saved.is_symlink():
        return None
    try:
        found = Observations.load(saved)
        for layer in found.layers:
            _ = found.layers[layer] if found.sums is None else found.sums[layer]  # reads it
        return found
    except ArtifactError:
        with writing(saved):
            if saved.is_symlink() or not saved.is_dir():
                saved.unlink()  # not what a link leads to
            else:
                shutil.rmtree(saved)
        return None
