"""What streaming a model takes: bytes to read, and memory, from the headers of its files."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from easyep import memory
from easyep.architectures.spec import stated_size
from easyep.checkpoint.headers import BITS, Tensor
from easyep.errors import ObservationError
from easyep.launcher import rank
from easyep.memory_limits import MAIN, limit
from easyep.placing import usable_device
from easyep.recipe import Recipe
from easyep.runs import Run
from easyep.weighing import bytes_each, computed_bytes, computed_type

# What Python, torch and transformers take, and a model of many layers without its weights.
BASE = 700_000_000

# Bytes of routed experts that are held at most; one of them is read while another computes.
EXPERTS = 300_000_000

# What a pass holds for each token while it waits in the middle of a layer, in hidden states: the
# layer's input, the stream after attention, the block's input, what two modules gave; and the
# experts' sum in float32.
STATES, SUM = 5, 4

# What one pass that computes takes for each token, in hidden states.
WORK = 64

# What attention's scores take on top of it: at most so much (`observation.attention`), or that of
# so many heads, 12 bytes for each pair of tokens.
SCORES, HEADS, SCORE = 300_000_000, 128, 12


@dataclass(frozen=True)
class StreamPlan:
    """What a run takes, all in bytes.

    Attributes:
        to_read: of the checkpoint, if every expert is reached.
        outside: weights in no layer, embeddings above all, while they are put in their places.
        layer: the largest dense part of a layer, while it is.
        experts: routed experts held at a time.
        work: what one pass takes while it computes.
        waiting: what all passes hold while they wait.
        budget: how much of that may stay in memory; the rest is written to the work directory.
        dense, routed: the weights of all layers in the type that the model computes in, and of
            those the routed experts'.
        number_bytes: of one number of that type.
    """

    to_read: int
    outside: int
    layer: int
    experts: int
    work: int
    waiting: int
    budget: int
    dense: int
    routed: int
    number_bytes: int

    @property
    def memory(self) -> int:
        """Main memory that the run needs, libraries included."""
        held = min(self.waiting, self.budget)
        return BASE + self.work + max(self.outside, self.layer + self.experts + held)

    @property
    def on_device(self) -> int:
        """Memory of the GPU that a run on one needs: what passes hold stays there."""
        return self.work + max(self.outside, self.layer + self.experts + self.waiting)

    @property
    def to_spill(self) -> int:
        """What does not stay in memory."""
        return max(0, self.waiting - self.budget)


def room_for(recipe: Recipe) -> int:
    """Bytes of main memory that this process may have in all: an equal part of what is free."""
    there = memory.available() // rank().local_size + memory.taken()
    return min(there, (recipe.max_memory or {}).get(MAIN, there))


def room_beside(recipe: Recipe) -> int:
    """Of that, what is left for weights and hidden states: a dry run says what a run does."""
    return room_for(recipe) - max(BASE, memory.taken())


def check_device(plan: StreamPlan, recipe: Recipe) -> None:
    """Check that a run on a GPU stays within the recipe's limit for it.

    Raises:
        ObservationError: it takes more.
        UnsupportedModelError: there is no such device here.
    """
    device = usable_device(recipe.device)
    most = limit(recipe.max_memory, device)
    if device.type != MAIN and most is not None and plan.on_device > most:
        raise ObservationError(
            f"streaming on {device} takes about {plan.on_device:,} bytes of its memory, and "
            f"--max-memory allows {most:,}; fewer demonstrations or a shorter --max-length take "
            "less, and --device cpu writes aside what has no room"
        )


def plan_stream(runs: Sequence[Run], room: int) -> StreamPlan:
    """How a pass over the checkpoint gets along with `room` bytes beside the libraries.

    Args:
        runs: the runs that share the pass.
        room: bytes of memory for weights and hidden states.

    Raises:
        ObservationError: not even one pass has room.
    """
    source, dtype = runs[0].source, runs[0].recipe.dtype
    layout = source.layout
    with_mtp = bool(runs[0].mtp_layers)
    expert_names: set[str] = set()
    largest = 0
    for number in runs[0].layers:
        moe = layout.layers[number]
        each = [[part.tensor for part in expert] for expert in moe.experts]
        stacked = [source.checkpoint.tensors[n] for n, p in moe.parts.items() if p == "experts"]
        expert_names |= {tensor.name for tensor in (*stacked, *(t for e in each for t in e))}
        counted = computed_bytes(stacked, dtype) // layout.router.num_experts
        largest = max([largest, counted, *(computed_bytes(expert, dtype) for expert in each)])
    dense: dict[int | None, list[Tensor]] = {}
    to_read = 0
    for name, tensor in source.checkpoint.tensors.items():
        unread = _COPY.search(name) or not with_mtp if layout.is_mtp(name) else _HEAD.search(name)
        if unread:
            continue
        to_read += tensor.nbytes
        if name not in expert_names:
            dense.setdefault(layout.layer_of.get(name), []).append(tensor)
    experts_all = [source.checkpoint.tensors[name] for name in expert_names]
    outside = _loaded(dense.pop(None, []), dtype)
    layer = max(_loaded(tensors, dtype) for tensors in dense.values())
    hidden = _hidden(source.checkpoint.config)
    size = bytes_each(computed_type(source.checkpoint.config, dtype))
    lengths = [len(sequence) for run in runs for sequence in run.sequences]
    scores = min(SCORES, max(lengths) ** 2 * HEADS * SCORE)
    work = max(lengths) * hidden * size * WORK + scores
    states = STATES + with_mtp  # MTP layers want the tokens' embeddings again
    waiting = sum(lengths) * hidden * (states * size + SUM)
    experts = max(4 * largest, min(EXPERTS, room // 6))
    budget = room - layer - experts - work
    plan = StreamPlan(
        to_read,
        outside,
        layer,
        experts,
        work,
        waiting,
        max(0, budget),
        dense=sum(computed_bytes(tensors, dtype) for tensors in dense.values()),
        routed=computed_bytes(experts_all, dtype),
        number_bytes=size,
    )
    least = replace(plan, experts=4 * largest, budget=0).memory
    if least > BASE + room:
        raise ObservationError(
            f"streaming this model with demonstrations of {max(lengths):,} tokens takes about "
            f"{least - BASE:,} bytes of memory beside what is loaded already, and {max(0, room):,} "
            "are left; a shorter --max-length takes less"
        )
    return plan


def _loaded(tensors: Iterable[Tensor], dtype: str) -> int:
    """Bytes that are held while tensors are read and put in their places."""
    total = largest = 0
    for tensor in tensors:
        becomes = computed_bytes([tensor], dtype)
        total += becomes
        if BITS[tensor.dtype] < 16:  # dequantised one after the other
            largest = max(largest, tensor.nbytes)
        elif becomes != tensor.nbytes:
            total += tensor.nbytes
    return total + largest


def _hidden(config: Mapping[str, Any]) -> int:
    """The width of the hidden states, whatever part of the configuration says it."""
    found = (stated_size(config, key) for key in ("hidden_size", "d_model", "n_embd"))
    return next(filter(None, found), 8192)


_COPY = re.compile(r"\.(embed_tokens|shared_head\.head)\.weight$")  # MTP layers' own
_HEAD = re.compile(r"(^|\.)(lm_head|output|embed_out)\.weight$")
