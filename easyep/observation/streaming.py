"""Observation of a model that does not fit into memory: all demonstrations, layer by layer."""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from easyep import memory
from easyep.artifacts import RoutedTokens, TokenSequence
from easyep.observation.attention import InPieces
from easyep.observation.device_record import DeviceRecord
from easyep.observation.experts import COMPUTE
from easyep.observation.lanes import Lane, wait
from easyep.observation.multi_token import run_mtp
from easyep.observation.recorder import Recorder, check_work
from easyep.observation.speed import Speed
from easyep.observation.spilling import Made, Spill
from easyep.observation.stream_state import Remembered, StreamState, everywhere
from easyep.observation.streamed_experts import ExpertsCall, run_experts
from easyep.observation.weights.empty import drop
from easyep.observation.weights.partial import PartialModel
from easyep.progress import SILENT, Progress

# Bytes of routed experts held at a time where nothing else is said.
EXPERT_BYTES = 300_000_000

Keep = Callable[[int, RoutedTokens], None]


@dataclass
class _Own:
    """What belongs to the pass that runs in this thread.

    Attributes:
        number: its demonstration's.
        made: what it has made.
        last: what the last finished layer gave, while the pass goes through finished layers.
    """

    number: int
    made: Made = field(default_factory=Made)
    last: Any = None


_OWN: ContextVar[_Own] = ContextVar("easyep_pass")


def run_streaming(
    model: PartialModel,
    sequences: Sequence[TokenSequence],
    keep: Keep,
    *,
    stream: str | None = None,
    state: StreamState | None = None,
    done: Collection[int] = (),
    expert_bytes: int = EXPERT_BYTES,
    spill: Spill | None = None,
    title: str = "Streaming",
    progress: Progress = SILENT,
) -> None:
    """Run the demonstrations through the model, all of them through a layer before the next.

    Every demonstration is a forward pass of the model's own code, held up at each layer until its
    weights are there (`lanes`). Routed experts are read one after the other for the tokens of all
    demonstrations. Sums over experts are formed in float32, in the order of the experts' numbers;
    an in-memory run rounds in another order.

    The processes of the model's group run the same passes, and each reads its part of the weights
    (`run_experts`, `WeightReader.read_together`); what they keep is the same in all.

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
        spill: takes what passes hold while they wait; None = it stays in memory.

    Raises:
        ObservationError: there is nothing to record, or it cannot be recorded exactly.
        CheckpointError: a weight is missing or cannot be read.
    """
    parts: dict[int, dict[int, DeviceRecord | RoutedTokens]] = {}

    def take(layer: int, part: DeviceRecord) -> None:
        # What the pass has made may be written to the file when it waits: fetch the record before.
        found = part.fetch() if spill is not None else part
        parts.setdefault(layer, {})[_OWN.get().number] = found

    recorder = Recorder(model.watched, take, stream=stream)
    check_work(model.model, [recorder], sequences)
    memory.give_back_large_blocks()
    before = state.load(model.device) if state is not None else None
    count = len(model.layers)  # a second set of experts in a layer has its number behind these
    if before and any(i % count <= before.layer and i not in done for i in recorder.moe_layers):
        before = None
    before = everywhere(before, model.reader.group, model.device)
    finished = before.layer if before is not None else -1
    todo = range(finished + 1, len(model.layers))
    tokens = sum(len(sequence) for sequence in sequences)
    with ExitStack() as context:
        # The first pass through a layer tells how its experts reach the residual stream: the
        # longest tells most.
        order = sorted(range(len(sequences)), key=lambda number: -len(sequences[number]))
        lanes = [Lane(_pass(model, recorder, i, sequences[i], spill)) for i in order]
        for lane in lanes:
            context.callback(lane.stop)
        context.callback(model.reader.close)
        context.enter_context(torch.inference_mode())
        context.enter_context(recorder.attached())
        _hold_up(model, before, state, spill, context)
        task = context.enter_context(progress.task(title, tokens * len(todo), "tokens"))
        speed = Speed(task, model.reader, tokens, len(model.layers))
        model.load_outside()
        for lane in lanes:
            lane.resume()  # to the first layer that is to be run
        drop(model.embeddings)
        if model.mtp is not None:
            drop(model.mtp.embed_tokens)
        for layer in todo:
            _run_layer(model, layer, lanes, expert_bytes, speed)
            for index in sorted(parts):
                found = [part for _, part in sorted(parts.pop(index).items())]
                fetched = [x.fetch() if isinstance(x, DeviceRecord) else x for x in found]
                keep(index, RoutedTokens.concatenate(fetched))
            if state is not None and layer < model.remembered:
                state.finish(layer, len(lanes))
            speed.passed(tokens)


def _run_layer(
    model: PartialModel, layer: int, lanes: Sequence[Lane], expert_bytes: int, speed: Speed
) -> None:
    """Let all passes go through one layer."""
    speed.begins(layer)
    model.load_layer(layer)
    # A demonstration may have too few tokens for an MTP layer.
    waiting = {number: lane.resume() for number, lane in enumerate(lanes) if not lane.done}
    while calls := {n: each for n, each in waiting.items() if isinstance(each, ExpertsCall)}:
        run_experts(model, layer, list(calls.values()), expert_bytes, speed.tell)
        for number in calls:
            waiting[number] = lanes[number].resume()
    model.drop_layer(layer)


def _pass(
    model: PartialModel,
    recorder: Recorder,
    number: int,
    sequence: TokenSequence,
    spill: Spill | None,
) -> Callable[[], None]:
    """One demonstration's forward pass."""

    def run() -> None:
        own = _Own(number)
        _OWN.set(own)
        ids = torch.from_numpy(sequence.input_ids).long()[None].to(model.device)
        with (
            torch.inference_mode(),
            InPieces(),
            own.made if spill is not None else nullcontext(),
        ):
            # Taken now: the embeddings are dropped when all passes have come to the first layer.
            embedded: Any = model.mtp.embed_tokens(ids) if model.mtp is not None else None
            with recorder.batch([number], [sequence], first=0, width=len(sequence)):
                output: Any = model.decoder(input_ids=ids, use_cache=False)
            if model.mtp is not None:
                hidden = output.last_hidden_state
                del output
                run_mtp(model.mtp, recorder, [number], [sequence], embedded, hidden)

    return run


def _hold_up(
    model: PartialModel,
    before: Remembered | None,
    state: StreamState | None,
    spill: Spill | None,
    undo: ExitStack,
) -> None:
    """Let every pass wait before each layer, and for the layer's experts.

    Layers that are finished already need no weights (`_again`); what the others give is written
    to `state`.
    """

    def pause(what: Any, *needed: Tensor) -> None:
        if spill is None:
            wait(what)
            return
        resting = spill.rest(_OWN.get().made, needed)
        wait(what)
        resting.wake()

    def before_layer(module: nn.Module, args: Any) -> None:
        pause("layer")

    def ask(hidden_states: Tensor, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        call = ExpertsCall.of(hidden_states, ids, weights)
        if spill is not None and not spill.fits(_OWN.get().made):
            call = call.moved(spill.outside)
        pause(call, call.hidden_states, call.ids, call.weights, call.routed, call.norms)
        return call.routed.to(hidden_states.dtype), call.norms

    for layer, module in enumerate(model.layers):
        if before is not None and layer <= before.layer:
            module.forward = _again(before, layer)
            undo.callback(delattr, module, "forward")
            continue
        undo.callback(module.register_forward_pre_hook(before_layer, prepend=True).remove)
        if state is not None and layer < model.remembered:
            undo.callback(module.register_forward_hook(_remember(state, layer)).remove)
        experts = model.experts_of(layer)
        if experts is not None:
            setattr(experts, COMPUTE, ask)
            undo.callback(delattr, experts, COMPUTE)


def _again(before: Remembered, layer: int) -> Callable[..., Any]:
    """What takes the place of a finished layer: the last one gives what it gave then.

    So does each before it, whose output nobody looks at; a copy, since the model may change it.
    """

    def forward(*args: Any, **kwargs: Any) -> Any:
        own = _OWN.get()
        if own.last is None:
            own.last = before.output(own.number)
        if layer < before.layer:
            return pytree.tree_map_only(Tensor, Tensor.clone, own.last)
        last, own.last = own.last, None
        return last

    return forward


def _remember(state: StreamState, layer: int) -> Callable[[nn.Module, Any, Any], None]:
    def after_layer(module: nn.Module, args: Any, output: Any) -> None:
        state.add(layer, _OWN.get().number, output)

    return after_layer
