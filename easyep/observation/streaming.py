"""Observation of a model that does not fit into memory: all demonstrations, layer by layer."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from easyep.artifacts import RoutedTokens, TokenSequence
from easyep.errors import ObservationError
from easyep.observation.experts import COMPUTE
from easyep.observation.lanes import Lane, in_lane, wait
from easyep.observation.recorder import Recorder
from easyep.observation.streamed_experts import ExpertsCall, run_experts
from easyep.observation.weights.partial import PartialModel, drop
from easyep.progress import SILENT, Progress

# Bytes of routed experts held at a time where nothing else is said.
EXPERT_BYTES = 1_000_000_000


def observe_streaming(
    model: PartialModel,
    sequences: Sequence[TokenSequence],
    sink: Callable[[int, RoutedTokens], None],
    *,
    stream: str | None = None,
    expert_bytes: int = EXPERT_BYTES,
    progress: Progress = SILENT,
) -> None:
    """Run the demonstrations through the model, all of them through a layer before the next.

    Every demonstration is a forward pass of the model's own code, held up at each layer until its
    weights are there (`lanes`). Routed experts are read one after the other for the tokens of all
    demonstrations. Sums over experts are formed in float32, in the order of the experts' numbers;
    an in-memory run rounds in another order.

    Args:
        model: a model none of whose weights are loaded.
        sequences: the demonstrations, each run alone.
        sink: takes the record of each layer, demonstration by demonstration in their order.
        stream: as in `Recorder`.
        expert_bytes: bytes of routed experts to be held at a time.

    Raises:
        ObservationError: there is nothing to record, or it cannot be recorded exactly.
        CheckpointError: a weight is missing or cannot be read.
    """
    if not sequences or any(len(sequence) == 0 for sequence in sequences):
        raise ObservationError("there are no demonstrations to run, or one has no tokens")
    recorder = Recorder(dict(enumerate(model.layers)), sink, stream=stream)
    if not recorder.moe_layers:
        raise ObservationError(f"{type(model.model).__name__} has no routed experts to observe")
    lanes = [Lane(_pass(model, recorder, i, each)) for i, each in enumerate(sequences)]
    total = sum(len(sequence) for sequence in sequences) * len(model.layers)
    with ExitStack() as context:
        for lane in lanes:
            context.callback(lane.stop)
        context.callback(model.reader.close)
        context.enter_context(torch.inference_mode())
        context.enter_context(recorder.attached())
        _hold_up(model, context)
        task = context.enter_context(progress.task("streaming", total, "tokens"))
        model.load_outside()
        for lane in lanes:
            lane.resume()  # to the first layer
        drop(model.embeddings)
        for layer in range(len(model.layers)):
            model.load_layer(layer)
            calls = [lane.resume() for lane in lanes]
            while any(isinstance(call, ExpertsCall) for call in calls):
                waiting = [call for call in calls if isinstance(call, ExpertsCall)]
                run_experts(model, layer, waiting, expert_bytes)
                for number, lane in enumerate(lanes):
                    if isinstance(calls[number], ExpertsCall):
                        calls[number] = lane.resume()
            model.drop_layer(layer)
            task.advance(total // len(model.layers))


def _pass(
    model: PartialModel, recorder: Recorder, number: int, sequence: TokenSequence
) -> Callable[[], None]:
    """One demonstration's forward pass."""

    def run() -> None:
        ids = torch.from_numpy(sequence.input_ids).long()[None].to(model.device)
        with (
            torch.inference_mode(),
            recorder.batch([number], [sequence], first=0, width=len(sequence)),
        ):
            model.decoder(input_ids=ids, use_cache=False)

    return run


def _hold_up(model: PartialModel, undo: ExitStack) -> None:
    """Let every pass wait before each layer, and for the layer's experts."""

    def before_layer(module: torch.nn.Module, args: Any) -> None:
        wait("layer")

    def ask(hidden_states: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> Any:
        call = ExpertsCall.of(hidden_states, ids, weights)
        wait(call)
        return call.routed.to(hidden_states.dtype), call.norms

    assert not in_lane()
    for layer, module in enumerate(model.layers):
        undo.callback(module.register_forward_pre_hook(before_layer, prepend=True).remove)
        experts = model.experts_of(layer)
        if experts is not None:
            setattr(experts, COMPUTE, ask)
            undo.callback(delattr, experts, COMPUTE)
