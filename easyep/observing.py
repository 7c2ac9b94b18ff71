"""Observations of domains: what is saved is not redone, what was begun is gone on with."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyep.artifacts import Observations, ObservedDemo, RoutedTokens
from easyep.artifacts.journal import Journal, journal
from easyep.atomic import writing
from easyep.distributed import ALONE, Group
from easyep.errors import ArtifactError, ObservationError, OutputError, UnsupportedModelError
from easyep.loading import load_tokenizer
from easyep.progress import SILENT, Progress
from easyep.records import FullStore, RecordPlan, SumStore
from easyep.runs import Run
from easyep.shares import tell_how
from easyep.streams import LayerFinished, stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from easyep.observation.denoising import Denoising
    from easyep.observation.in_memory import Keep


def observe_runs(
    runs: Sequence[Run],
    model: "Callable[[], PreTrainedModel]",
    *,
    group: Group = ALONE,
    work_dir: Path | None = None,
    output: Path | None = None,
    on_layer_finished: LayerFinished | None = None,
    progress: Progress = SILENT,
) -> list[Observations]:
    """Observe domains: those that are streamed in one pass, others one after the other.

    In the first process of a group; the others `help_observe`.

    Args:
        runs: what, one for each domain, all by the same runner.
        model: loads the model; called only if something has to be run whole.
        group: the processes that run it together.
        work_dir, output: where the observations are saved, as in `calibrate`.
        on_layer_finished: is told of the layers that streaming finishes, as in `streams.stream`;
            not called where what some runs observed is saved already.

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
    together = all(runs[number].runner == "stream" for number in begun)
    passes = [list(begun)] if together and begun else [[number] for number in begun]
    for numbers in group.agree(passes):
        chosen, places = [runs[number] for number in numbers], [begun[n] for n in numbers]
        observed = _observe(chosen, places, model, group, told, progress)
        found.update(zip(numbers, observed, strict=True))
    return [found[number] for number in range(len(runs))]


def help_observe(runs: Sequence[Run], model: "Callable[[], PreTrainedModel]", group: Group) -> None:
    """What the other processes do while the first does `observe_runs`."""
    passes: list[list[int]] = []
    for numbers in group.agree(passes):
        chosen = [runs[number] for number in numbers]
        if chosen[0].runner == "stream":
            stream(chosen, [], None, group=group)
        else:
            _run_whole(chosen[0], _keep_nothing, group.agree([]), model(), group, SILENT)


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
    model: "Callable[[], PreTrainedModel]",
    group: Group,
    on_layer_finished: LayerFinished | None,
    progress: Progress,
) -> list[Observations]:
    """Run, and save, what is not saved yet."""
    tell_how(runs[0], group.here, progress)
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
        if runs[0].runner == "stream":
            state = journals[0].file("state") if journals[0] is not None else None
            dtype = stream(
                runs,
                stores,
                state,
                group=group,
                on_layer_finished=on_layer_finished,
                progress=progress,
            )
        else:
            (run,), (store,) = runs, stores
            done = group.agree(sorted(store.done))
            dtype = _run_whole(run, store.add, done, model(), group, progress)
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


def _keep_nothing(demos: Sequence[int], parts: Mapping[int, Any]) -> None:
    """Where the records of a process go that is not the first: they are with that one."""


def _run_whole(
    run: Run,
    keep: "Keep",
    done: Sequence[int],
    model: "PreTrainedModel",
    group: Group,
    progress: Progress,
) -> str:
    """Run the model from memory; the type that it computed in."""
    from easyep.observation.in_memory import run_in_memory
    from easyep.observation.multi_token import load_mtp

    with group.computing():
        run_in_memory(
            model,
            run.sequences,
            keep,
            done=done,
            mtp=load_mtp(model) if run.mtp_layers else None,
            stream=run.source.architecture.observation.stream,
            batch_size=run.recipe.batch_size,
            denoising=_denoising(run, model),
            group=group,
            title=f"Observing {run.domain}",
            progress=progress,
        )
    return str(model.dtype).removeprefix("torch.")


def _denoising(run: Run, model: "PreTrainedModel") -> "Denoising | None":
    """How a diffusion model is run.

    Raises:
        UnsupportedModelError: nothing says which token hides another.
    """
    from easyep.observation.denoising import Denoising

    notes, config = run.source.architecture.observation, run.source.checkpoint.config
    if notes.diffusion is None:
        return None
    block = notes.block if isinstance(notes.block, int) else int(config[notes.block])
    token = config.get("mask_token_id")
    if token is None and notes.diffusion != "canvas":
        path, trust = run.source.model.path, run.recipe.trust_remote_code
        token = load_tokenizer(path, trust_remote_code=trust).mask_token_id
        if token is None:
            raise UnsupportedModelError(
                f"{path} does not say which token hides another: config.json has no mask_token_id "
                "and the tokenizer no mask token; add one of them"
            )
    vocabulary = model.config.get_text_config().vocab_size
    return Denoising(notes.diffusion, run.mask_ratios, token, vocabulary, block)


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
