"""How much memory there is, and how it is given back."""

import ctypes
import platform
from pathlib import Path

UNKNOWN = 1 << 62

# Where a control group says how much its processes may take, and take now (version 2, then 1).
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available() -> int:
    """Bytes of main memory that are free or can be freed, `UNKNOWN` where nobody says."""
    free = [UNKNOWN]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
    except OSError:
        pass
    for limit, used in _GROUPS:
        try:
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # ValueError: "max", no limit
            continue
    return max(0, min(free))


def give_back_large_blocks() -> None:
    """Let the C library hand freed blocks of 4 MiB and more back to the kernel at once.

    By default it keeps freed blocks of up to 32 MiB for later, in every thread that has had some:
    with a thread for every demonstration that is more than the model's layer takes. For the rest
    of the process; where the C library is not glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_THRESHOLD, 4 << 20)
    mallopt(_M_ARENA_MAX, 2)


_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h> of glibc
