"""Bandwidth and peak of the machine that this runs on, measured in a second or two."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from easyep import memory
from easyep.evaluation.roofline.machine import Machine
from easyep.evaluation.roofline.weights import SIZES
from easyep.placing import usable_device

if TYPE_CHECKING:
    from torch import Tensor

# Larger than caches: reading it is reading memory.
_BLOCK = {"cpu": 256 << 20, "other": 4 << 30}
_SIDES = {"cpu": (128, 256, 512, 1024), "other": (8192,)}
_LONG = 0.05  # seconds of a product beyond which a larger one tells nothing new
_ROUNDS = 7


def probe(device: str = "auto", dtype: str = "float32") -> Machine:
    """Measure a device as it is now, with the threads that torch has.

    Bandwidth is that of looking through a block of memory far larger than any cache, that is of
    reading; the peak that of the product of two square matrices, smaller ones where a processor
    is slow in that type. Of several rounds the fastest counts: what else the machine does only ever
    slows one down.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda:0"``, ...
        dtype: of the matrices; bfloat16 stands in for what torch cannot multiply.

    Raises:
        UnsupportedModelError: there is no such device.
    """
    import torch

    place = usable_device(device)
    kind = "cpu" if place.type == "cpu" else "other"
    bandwidth = _BLOCK[kind] / _fastest(torch.ones(_BLOCK[kind] // 4, device=place).max)
    if dtype not in SIZES:
        dtype = "bfloat16"
    for side in _SIDES[kind]:
        one = torch.randn(side, side, device=place).to(getattr(torch, dtype))
        seconds = _fastest(partial(_corner, one, torch.empty_like(one)))
        if seconds > _LONG:
            break
    peak = 2 * side**3 / seconds
    if kind == "cpu":
        name, total = f"this CPU, {torch.get_num_threads()} threads", memory.available()
    else:
        name, total = torch.cuda.get_device_name(place), torch.cuda.mem_get_info(place)[1]
    return Machine(name, 1, float(total), bandwidth, {dtype: peak}, "measured")


def _corner(one: "Tensor", out: "Tensor") -> "Tensor":
    """One number of the product of `one` with itself."""
    import torch

    return torch.mm(one, one, out=out)[0, 0]


def _fastest(work: Callable[[], Any]) -> float:
    """Seconds of the fastest round; `work` returns one number, which is waited for."""
    work().item()
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        work().item()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
