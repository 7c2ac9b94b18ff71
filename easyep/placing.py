"""Which devices a process may use, and what of a model goes where."""

from typing import Any

from easyep import memory
from easyep.errors import UnsupportedModelError, first_line
from easyep.launcher import rank
from easyep.memory_limits import MAIN, Limits, limit

# What of an accelerator's free memory weights may take; the rest is for what the model computes.
_FOR_WEIGHTS = 0.85


def placement(device: str, max_memory: Limits | None) -> dict[str, Any] | None:
    """How accelerate is to place a model, as arguments of `from_pretrained`.

    Returns:
        None where it goes onto one device whole.

    Raises:
        UnsupportedModelError: there is no such device here.
    """
    import torch

    place, limits = usable_device(device), max_memory or {}
    if place.type == MAIN:
        if MAIN not in limits:
            return None
        return {"device_map": "auto", "max_memory": {MAIN: limits[MAIN]}}
    numbers = [place.index or 0] if device != "auto" else own_accelerators()
    room: dict[int | str, int] = {MAIN: limits.get(MAIN, memory.available() // rank().local_size)}
    for number in numbers:
        free = int(torch.cuda.mem_get_info(number)[0]) if place.type == "cuda" else memory.UNKNOWN
        room[number] = limits.get(str(number), int(_FOR_WEIGHTS * free))
    return {"device_map": "auto", "max_memory": room}


def own_accelerators() -> list[int]:
    """The accelerators of this process: those of the machine, in equal parts.

    Where there are more processes than accelerators, several processes have the same.
    """
    import torch

    count, here = torch.accelerator.device_count(), rank()
    each = max(1, count // here.local_size)
    first = here.local * each % max(1, count)
    return list(range(first, min(count, first + each)))


def usable_device(name: str) -> Any:
    """The torch device that `name` means; ``"auto"`` is the first accelerator of this process,
    else the CPU. Under a launcher ``"cuda"`` is the first of this process too.

    Raises:
        UnsupportedModelError: there is no such device here.
    """
    import torch

    try:
        found: Any = "cpu" if name == "auto" else name
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        shared = rank().local_size > 1 and accelerator is not None and name == accelerator.type
        if accelerator is not None and (name == "auto" or shared):
            found = torch.device(accelerator.type, own_accelerators()[0])
        place = torch.device(found)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise UnsupportedModelError(
            f"the device {name!r} cannot be used: {first_line(error)}; --device cpu always can"
        ) from None
    return place


def room(device: str, max_memory: Limits | None) -> int:
    """Bytes that a model can take on the device, or on all accelerators that ``"auto"`` means.

    Raises:
        UnsupportedModelError: there is no such device here.
    """
    import torch

    place = usable_device(device)
    if place.type != "cuda":
        free = memory.available() // rank().local_size
        return min(free, limit(max_memory, place) or free)
    total = 0
    for number in [place.index or 0] if device != "auto" else own_accelerators():
        free = int(torch.cuda.mem_get_info(number)[0])
        total += min(free, limit(max_memory, torch.device("cuda", number)) or free)
    return total
