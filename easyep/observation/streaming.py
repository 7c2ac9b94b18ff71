"""Observation of a model that does not fit into memory: all demonstrations, layer by layer."""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from easyep import memory
from easyep.artifacts import RoutedTokens, TokenSequence
from easyep.errors import ObservationError
from easyep.observation.device_record import DeviceRecord
from easyep.observation.experts import COMPUTE
from easyep.observation.lanes import Lane, wait
from easyep.observation.recorder import Recorder
from easyep.observation.stream_state import StreamState
from easyep.observation.streamed_experts import ExpertsCall, run_experts
from easyep.observation.weights.partial import PartialModel, drop
from easyep.progress import SILENT, Progress

# Bytes of routed experts held at a time where nothing else is said.
EXPERT_BYTES = 1_000_000_000

Keep = Callable[[int, RoutedTokens], None]

# Which demonstration's pass runs in this thread.
_NUMBER: ContextVar[int] = ContextVar("easyep_pass")


def run_streaming(
    model: PartialModel,
    sequences: Sequence[TokenSequence],
    keep: Keep,
    *,
    stream: str | None = None,
    state: StreamState | None = None,
    done: Collection[int] = (),
    expert_bytes: int = EXPERT_BYTES,
    title: str = "Streaming",
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
        keep: takes the record of each layer when all demonstrations have passed it, in their
            order.
        stream: as in `Recorder`.
        state: remembers the last finished layer; a run that finds one there goes on behind it,
            if the records up to it are there too.
        done: layers whose records are there already.
        expert_bytes: bytes of routed experts to be held at a time.

    Raises:
        ObservationError: there is nothing to record, or it cannot be recorded exactly.
        CheckpointError: a weight is missing or cannot be read.
    """
    if not sequences or any(len(sequence) == 0 for sequence in sequences):
        raise ObservationError("there are no demonstrations to run, or one has no tokens")
    parts: dict[int, list[DeviceRecord]] = {}
    recorder = Recorder(
        dict(enumerate(model.layers)),
        lambda layer, part: parts.setdefault(layer, []).append(part),
        stream=stream,
    )
    if not recorder.moe_layers:
        raise ObservationError(
            f"{type(model.model).__name__} has no routed experts that easyep knows how to watch"
        )
    memory.give_back_large_blocks()
    finished, before = (state.load(model.device) if state is not None else None) or (-1, [])
    if any(layer <= finished and layer not in done for layer in recorder.moe_layers):
        finished, before = -1, []
    todo = range(finished + 1, len(model.layers))
    tokens = sum(len(sequence) for sequence in sequences)
    with ExitStack() as context:
        lanes = [Lane(_pass(model, recorder, i, each)) for i, each in enumerate(sequences)]
        for lane in lanes:
            context.callback(lane.stop)
        context.callback(model.reader.close)
        context.enter_context(torch.inference_mode())
        context.enter_context(recorder.attached())
        outputs = _hold_up(model, finished, before, context)
        task = context.enter_context(progress.task(title, tokens * len(todo), "tokens"))
        model.load_outside()
        for lane in lanes:
            lane.resume()  # to the first layer that is to be run
        drop(model.embeddings)
        for layer in todo:
            _run_layer(model, layer, lanes, expert_bytes)
            if layer in parts:
                records = [part.fetch() for part in parts.pop(layer)]
                keep(layer, RoutedTokens.concatenate(records))
            if state is not None and layer < len(model.layers) - 1:
                state.save(layer, [outputs[number] for number in range(len(lanes))])
            task.advance(tokens)


def _run_layer(model: PartialModel, layer: int, lanes: Sequence[Lane], expert_bytes: int) -> None:
    """Let all passes go through one layer."""
    model.load_layer(layer)
    waiting = {number: lane.resume() for number, lane in enumerate(lanes)}
    while calls := {n: each for n, each in waiting.items() if isinstance(each, ExpertsCall)}:
        run_experts(model, layer, list(calls.values()), expert_bytes)
        for number in calls:
            waiting[number] = lanes[number].resume()
    model.drop_layer(layer)


def _pass(
    model: PartialModel, recorder: Recorder, number: int, sequence: TokenSequence
) -> Callable[[], None]:
    """One demonstration's forward pass."""

    def run() -> None:
        _NUMBER.set(number)
        ids = torch.from_numpy(sequence.input_ids).long()[None].to(model.device)
        with (
            torch.inference_mode(),
            recorder.batch([number], [sequence], first=0, width=len(sequence)),
        ):
            model.decoder(input_ids=ids, use_cache=False)

    return run


def _hold_up(
    model: PartialModel, finished: int, before: Sequence[Any], undo: ExitStack
) -> dict[int, Any]:
    """Let every pass wait before each layer, and for the layer's experts.

    Layers that are finished already give what they gave then, without any weights.

    Returns:
        A dict that always has the output of the layer that each pass went through last.
    """
    outputs: dict[int, Any] = {}

    def before_layer(module: nn.Module, args: Any) -> None:
        wait("layer")

    def after_layer(module: nn.Module, args: Any, output: Any) -> None:
        outputs[_NUMBER.get()] = output

    def ask(hidden_states: Tensor, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        call = ExpertsCall.of(hidden_states, ids, weights)
        wait(call)
        return call.routed.to(hidden_states.dtype), call.norms

    def again(*args: Any, **kwargs: Any) -> Any:
        return before[_NUMBER.get()]

    for layer, module in enumerate(model.layers):
        if layer <= finished:
            module.forward = again
            undo.callback(delattr, module, "forward")
            continue
        undo.callback(module.register_forward_pre_hook(before_layer, prepend=True).remove)
        undo.callback(module.register_forward_hook(after_layer).remove)
        experts = model.experts_of(layer)
        if experts is not None:
            setattr(experts, COMPUTE, ask)
            undo.callback(delattr, experts, COMPUTE)
    return outputs
