"""How long streaming would take, from ten seconds of reading, dequantising and computing."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from easyep.checkpoint.files import checked_file
from easyep.distributed import ALONE
from easyep.launcher import Rank
from easyep.placing import usable_device
from easyep.runs import Run
from easyep.source import Source
from easyep.stream_plan import StreamPlan
from easyep.weighing import computed_type

if TYPE_CHECKING:
    import torch

_SECONDS = 3.0  # for each of the three
_PIECE = 32_000_000


@dataclass(frozen=True)
class Speeds:
    """What this machine does in a second.

    Attributes:
        reads: bytes read from the checkpoint's files, not from memory.
        dequantises: bytes of weights made from what was read; None where nothing is quantised.
        computes: floating-point operations in a product of a layer's shape.
    """

    reads: float
    dequantises: float | None
    computes: float


@dataclass(frozen=True)
class Forecast:
    """What a streaming run is expected to take.

    Attributes:
        plan: bytes to read, and memory.
        speeds: what it is computed from.
        reading, dequantising, computing: seconds; reading goes on beside the others.
    """

    plan: StreamPlan
    speeds: Speeds
    reading: float
    dequantising: float
    computing: float

    @property
    def seconds(self) -> float:
        """Of the whole run, roughly."""
        return max(self.reading, self.dequantising + self.computing)


def forecast(
    runs: Sequence[Run], plan: StreamPlan, speeds: Speeds, here: Rank = ALONE.here
) -> Forecast:
    """How long a pass would take at such speeds, for one of several processes.

    Counted are the products of tokens and weights, two operations for each; attention's scores,
    which grow with the square of a demonstration's length, are not, nor is the network.

    Args:
        runs: the runs that share the pass.
        plan: what it takes.
        speeds: of this process alone; those of one machine share what it reads in a second.
        here: which of how many processes this is.
    """
    source = runs[0].source
    tokens = sum(len(sequence) for run in runs for sequence in run.sequences)
    routed = plan.routed / here.size
    made = plan.dense + routed
    share = source.router.top_k / source.router.num_experts
    used = (plan.dense + routed * share) / plan.number_bytes
    return Forecast(
        plan,
        speeds,
        reading=plan.to_read / here.size * here.local_size / speeds.reads,
        dequantising=made / speeds.dequantises if speeds.dequantises else 0.0,
        computing=2 * tokens * used / speeds.computes,
    )


def probe(run: Run) -> Speeds:
    """Measure this machine, for ten seconds at most."""
    import torch

    recipe, source = run.recipe, run.source
    device = usable_device(recipe.device)
    name = computed_type(source.checkpoint.config, recipe.dtype)
    rows = min(128, max(len(sequence) for sequence in run.sequences))
    return Speeds(
        _read(source), _dequantise(run, device), _multiply(rows, getattr(torch, name), device)
    )


def _read(source: Source) -> float:
    """Bytes per second from places all over the files, whose contents memory may hold already."""
    largest = sorted(source.checkpoint.tensors.values(), key=lambda t: -t.nbytes)[:400]
    spots = largest[:: max(1, len(largest) // 40)]
    done, spent = 0, 0.0
    for tensor in spots:
        with open(checked_file(source.checkpoint.path, tensor.shard), "rb", buffering=0) as file:
            size = min(_PIECE, tensor.nbytes)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), tensor.begin, size, os.POSIX_FADV_DONTNEED)
            begin = time.perf_counter()
            file.seek(tensor.begin)
            done += len(file.read(size))
            spent += time.perf_counter() - begin
        if spent > _SECONDS:
            break
    return done / max(spent, 1e-9)


def _dequantise(run: Run, device: "torch.device") -> float | None:
    """Bytes of an expert's weights per second; None where they are stored as numbers."""
    import torch

    from easyep.observation.weights.reading import WeightReader, stored_weights

    source, dtype = run.source, run.recipe.dtype
    moe = next(iter(source.layout.layers.values()))
    names = [part.tensor.name for part in moe.experts[0]] if moe.experts else []
    names = names or [name for name, part in moe.parts.items() if part == "experts"]
    tensors = source.checkpoint.tensors
    weights = stored_weights(names, tensors)
    if all(set(stored.parts) == {""} for stored in weights.values()):
        return None
    becomes = getattr(torch, computed_type(source.checkpoint.config, dtype))
    reader = WeightReader(source.checkpoint, becomes, device)
    made, spent = 0, 0.0
    rows = None if moe.experts else [0]
    try:
        for stored in weights.values():
            reader.read(stored, rows, source.router.num_experts)  # from now on in memory
            begin = time.perf_counter()
            made += reader.read(stored, rows, source.router.num_experts).nbytes
            spent += time.perf_counter() - begin
    finally:
        reader.close()
    return made / max(spent, 1e-9)


def _multiply(rows: int, dtype: "torch.dtype", device: "torch.device") -> float:
    """Floating-point operations per second."""
    import torch

    size = 1024  # small: without such instructions, 16-bit products are very slow
    left = torch.ones(rows, size, dtype=dtype, device=device)
    right = torch.ones(size, size, dtype=dtype, device=device)
    done, begin = -1, time.perf_counter()
    while (spent := time.perf_counter() - begin) < _SECONDS / 3 or done < 1:
        product = torch.nn.functional.linear(left, right)
        if device.type != "cpu":
            product[0, 0].item()  # waits for the device
        done += 1
        if done == 0:
            begin = time.perf_counter()  # the first one prepares
    return 2 * rows * size * size * done / spent
