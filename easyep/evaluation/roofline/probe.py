"""Bandwidth and peak of the machine that this runs on, measured in a second or two."""

import time
from collections.abc import Callable
from typing import Any

from easyep import memory
from easyep.evaluation.roofline.machine import Machine
from easyep.evaluation.roofline.weights import SIZES
from easyep.placing import usable_device

# Larger than caches: reading it is reading memory.
_BLOCK = {"cpu": 256 << 20, "other": 4 << 30}
_SIDE = {"cpu": 1024, "other": 8192}
_ROUNDS = 7


def probe(device: str = "auto", dtype: str = "float32") -> Machine:
    """Measure a device as it is now, with the threads that torch has.

    Bandwidth is that of looking through a block of memory far larger than any cache, that is of
    reading; the peak that of the product of two square matrices. Of several rounds the fastest
    counts: what else the machine does only ever slows one down.

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
    side = _SIDE[kind]
    if dtype not in SIZES:
        dtype = "bfloat16"
    one = torch.randn(side, side, device=place).to(getattr(torch, dtype))
    out = torch.empty_like(one)

    peak = 2 * side**3 / _fastest(lambda: torch.mm(one, one, out=out)[0, 0])
    if kind == "cpu":
        name, total = f"this CPU, {torch.get_num_threads()} threads", memory.available()
    else:
        name, total = torch.cuda.get_device_name(place), torch.cuda.mem_get_info(place)[1]
    return Machine(name, 1, float(total), bandwidth, {dtype: peak}, "measured")


def _fastest(work: Callable[[], Any]) -> float:
    """Seconds of the fastest round; `work` returns one number, which is waited for."""
    work().item()
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        work().item()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
