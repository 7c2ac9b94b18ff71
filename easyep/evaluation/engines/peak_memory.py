"""The most memory that a stretch of work took, on an accelerator or in main memory."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from easyep import memory
from easyep.errors import MemoryExhaustedError, tells_of_memory

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures how many bytes were taken at most, beyond what was taken before.

    On an accelerator that is what torch's allocator handed out; in main memory the growth of the
    process's resident pages, after the C library gave back what it held of freed ones. It is known
    to about a megabyte.

    Args:
        device: a torch device.
    """

    def __init__(self, device: Any) -> None:
        self._device = device
        self.growth: int | None = None

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure what runs inside; `growth` is known afterwards, None where nobody says.

        Raises:
            MemoryExhaustedError: there was not enough; what was taken is free again.
        """
        import torch

        gc.collect()
        on_host = self._device.type == "cpu"
        before = _start_on_host() if on_host else _start_on(self._device)
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and not tells_of_memory(str(error)):
                raise
            # The frames of the error hold the tensors that are to be freed.
            error.__traceback__ = None
            gc.collect()
            if not on_host:
                torch.accelerator.empty_cache()
            raise MemoryExhaustedError(f"out of memory on {self._device}") from None
        after = _resident("VmHWM") if on_host else torch.accelerator.max_memory_allocated()
        self.growth = None if before is None or after is None else max(0, after - before)


def _start_on(device: Any) -> int:
    import torch

    torch.accelerator.synchronize()
    torch.accelerator.reset_peak_memory_stats()
    return int(torch.accelerator.memory_allocated())


def _start_on_host() -> int | None:
    memory.give_back_freed()
    try:
        _CLEAR.write_text("5")  # the high-water mark starts again from what is resident
    except OSError:
        return None
    return _resident("VmRSS")


def _resident(key: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return next((int(kilobytes) * 1024 for kilobytes in found), None)
