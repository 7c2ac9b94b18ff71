"""Several domains' runs in one pass over the checkpoint's files, layer by layer."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

from easyep.artifacts import LayerSums, RoutedTokens
from easyep.distributed import ALONE, Group
from easyep.memory_limits import MAIN
from easyep.placing import usable_device
from easyep.progress import SILENT, Progress
from easyep.records import FullStore, SumStore
from easyep.runs import Run
from easyep.stream_plan import check_device, plan_stream, room_beside

# Told of each MoE layer when all demonstrations have passed it: its index, and what is kept of it
# of each run, in their order, on the disk already where the runs are saved.
LayerFinished = Callable[[int, Sequence[RoutedTokens | LayerSums]], None]


def stream(
    runs: Sequence[Run],
    stores: Sequence[FullStore | SumStore],
    state: Path | None,
    *,
    group: Group = ALONE,
    on_layer_finished: LayerFinished | None = None,
    progress: Progress = SILENT,
) -> str:
    """Run the demonstrations of all runs together: each weight is read once.

    Args:
        runs: of one recipe.
        stores: take the records, one for each run; none in processes that are not the first.
        state: the file that remembers the last finished layer; None = nothing is remembered.
        group: the processes that do this together, each with a part of the weights.
        on_layer_finished: is told of each layer that this call finishes. After a kill the layer
            that it was told of last may come again, no layer before that does.

    Returns:
        The type that the model computed in.

    Raises:
        EasyEPError: a subclass says what could not be read or recorded.
    """
    from easyep.observation.spilling import Spill
    from easyep.observation.stream_state import StreamState
    from easyep.observation.streaming import run_streaming
    from easyep.observation.weights.partial import PartialModel

    recipe, source = runs[0].recipe, runs[0].source
    plan = plan_stream(runs, room_beside(recipe))
    check_device(plan, recipe)
    model = PartialModel(
        source.checkpoint,
        source.layout,
        dtype=recipe.dtype,
        device=usable_device(recipe.device),
        group=group,
        with_mtp=bool(runs[0].mtp_layers),
        trust_remote_code=recipe.trust_remote_code,
    )
    bounds = list(accumulate((len(run.sequences) for run in runs), initial=0))

    def keep(layer: int, whole: RoutedTokens) -> None:
        for store, (first, end) in zip(stores, pairwise(bounds), strict=group.here.first):
            own = whole.where((whole.demo >= first) & (whole.demo < end))
            store.add_layer(layer, replace(own, demo=own.demo - first))
        if on_layer_finished is not None:
            on_layer_finished(layer, [store.layer(layer) for store in stores])

    with ExitStack() as stack:
        spill = None
        if plan.to_spill and model.device.type == MAIN:
            folder = state.parent if state is not None else None
            spill = stack.enter_context(Spill(plan.budget, folder))
        run_streaming(
            model,
            [sequence for run in runs for sequence in run.sequences],
            keep,
            stream=source.architecture.observation.stream,
            state=StreamState(state, _key(runs)) if state is not None else None,
            done=set(stores[0].layers()).intersection(*(store.layers() for store in stores))
            if stores
            else (),
            expert_bytes=plan.experts,
            spill=spill,
            title=f"Streaming {', '.join(run.domain for run in runs)}",
            progress=progress,
        )
    return str(model.dtype).removeprefix("torch.")


def _key(runs: Sequence[Run]) -> str:
    """Tells apart passes of other demonstrations, or in another order."""
    return hashlib.sha256("/".join(run.key() for run in runs).encode()).hexdigest()[:12]
