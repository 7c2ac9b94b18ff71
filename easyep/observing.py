"""One domain's run: what is saved is not redone, and what was begun is gone on with."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyep.artifacts import Observations, ObservedDemo, TokenSequence
from easyep.artifacts.journal import Journal, journal
from easyep.errors import ArtifactError, ObservationError, OutputError
from easyep.loading import usable_device
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.records import FullStore, RecordPlan, SumStore, plan_records
from easyep.source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Run:
    """What is to be observed.

    Attributes:
        recipe: how.
        source: the model.
        domain: the domain's name.
        sequences: its demonstrations.
        criteria: those that must be possible if only sums are kept.
        runner: ``"memory"`` or ``"stream"``.
    """

    recipe: Recipe
    source: Source
    domain: str
    sequences: tuple[TokenSequence, ...]
    criteria: tuple[str, ...]
    runner: str = "memory"

    @property
    def mtp_layers(self) -> tuple[int, ...]:
        """The multi-token-prediction layers that are observed too."""
        scored = self.source.mtp_mode(self.recipe.mtp) == "score" and self.runner == "memory"
        return tuple(self.source.layout.mtp_layers) if scored else ()

    @property
    def layers(self) -> list[int]:
        """All layers that must be observed."""
        return sorted([*self.source.layout.moe_layers, *self.mtp_layers])

    def plan(self, place: Path | None) -> RecordPlan:
        """What the run keeps, saved on the disk of `place` or in memory."""
        return plan_records(
            self.recipe.records,
            self.criteria,
            tokens=sum(map(len, self.sequences)),
            layers=len(self.layers),
            router=self.source.router,
            place=place,
        )

    def key(self, criteria: tuple[str, ...] = ()) -> str:
        """Tells apart observations of different things, and sums for different criteria."""
        made_from = {
            "model": {**self.source.identity.to_json(), "name": ""},
            "demos": [sequence.sha256 for sequence in self.sequences],
            "dtype": self.recipe.dtype,
            "device": self.recipe.device,
            "mtp": bool(self.mtp_layers),
            **({"criteria": sorted(criteria)} if criteria else {}),
        }
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]


def observe_domain(
    run: Run,
    model: "Callable[[], PreTrainedModel]",
    *,
    work_dir: Path | None = None,
    output: Path | None = None,
    progress: Progress = SILENT,
) -> Observations:
    """Observe one domain.

    Args:
        run: what.
        model: loads the model; called only if something has to be run.
        work_dir, output: where the observations are saved, as in `calibrate`.

    Raises:
        EasyEPError: a subclass says what could not be observed or saved.
    """
    place = output if output is not None else work_dir
    plan = run.plan(place)
    key = run.key(() if plan.full else plan.criteria)
    saved = output
    if output is None and work_dir is not None:
        saved = work_dir / "observations" / f"{run.domain}-{key}"
        if (found := _whole(saved)) is not None:
            return found
    with ExitStack() as stack:
        kept = None
        if saved is not None:  # each runner goes on with what it has begun itself
            kept = stack.enter_context(journal(saved, f"{key}.{run.runner}"))
        observations = _observe(run, plan, kept, model, progress)
        _say_gaps(observations, progress)
        if saved is None:
            return observations
        _save(observations, saved, shared=output is None)
        assert kept is not None
        kept.remove()
    return Observations.load(saved)


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


def _observe(
    run: Run,
    plan: RecordPlan,
    kept: Journal | None,
    load: "Callable[[], PreTrainedModel]",
    progress: Progress,
) -> Observations:
    router = run.source.router
    store: FullStore | SumStore
    store = FullStore(router, kept) if plan.full else SumStore(router, plan.criteria, kept)
    progress.say(_announcement(run.domain, plan))
    if run.runner == "stream":
        dtype = _stream(run, store, kept, progress)
    else:
        dtype = _run_whole(run, store, load(), progress)
    _check_layers(run, store.layers())
    fields: dict[str, Any] = {
        "model": run.source.identity,
        "router": router,
        "domain": run.domain,
        "demos": tuple(
            ObservedDemo(s.sha256, len(s), int(s.is_response.sum()), s.cut) for s in run.sequences
        ),
        "runner": run.runner,
        "dtype": dtype,
    }
    if isinstance(store, FullStore):
        return Observations(layers=store.layers(), **fields)
    return Observations.summed(store.layers(), **fields)


def _run_whole(
    run: Run, store: FullStore | SumStore, model: "PreTrainedModel", progress: Progress
) -> str:
    """Run the model from memory; the type that it computed in."""
    from easyep.observation.in_memory import load_mtp, run_in_memory

    run_in_memory(
        model,
        run.sequences,
        store.add,
        done=store.done,
        mtp=load_mtp(model) if run.mtp_layers else None,
        stream=run.source.architecture.observation.stream,
        batch_size=run.recipe.batch_size,
        title=f"Observing {run.domain}",
        progress=progress,
    )
    return str(model.dtype).removeprefix("torch.")


def _stream(run: Run, store: FullStore | SumStore, kept: Journal | None, progress: Progress) -> str:
    """Run the model layer by layer from its files; the type that it computed in."""
    from easyep.observation.stream_state import StreamState
    from easyep.observation.streaming import run_streaming
    from easyep.observation.weights.partial import PartialModel

    if run.source.mtp_mode(run.recipe.mtp) == "score":
        for layer in run.source.layout.mtp_layers:
            progress.say(
                f"the multi-token-prediction layer {layer} is not observed when streaming; it "
                "follows the last layer's choice"
            )
    model = PartialModel(
        run.source.checkpoint,
        run.source.layout,
        dtype=run.recipe.dtype,
        device=usable_device(run.recipe.device),
        trust_remote_code=run.recipe.trust_remote_code,
    )
    run_streaming(
        model,
        run.sequences,
        store.add_layer,
        stream=run.source.architecture.observation.stream,
        state=StreamState(kept.file("state")) if kept is not None else None,
        done=store.layers(),
        title=f"Streaming {run.domain}",
        progress=progress,
    )
    return str(model.dtype).removeprefix("torch.")


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
    if not saved.exists():
        return None
    try:
        found = Observations.load(saved)
        for layer in found.layers:
            _ = found.layers[layer] if found.sums is None else found.sums[layer]  # reads it
        return found
    except ArtifactError:
        shutil.rmtree(saved)
        return None
