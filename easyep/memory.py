"""How much memory there is, and how it is given back."""

import ctypes
import platform
from pathlib import Path

UNKNOWN = 1 << 62

# Where a control group says how much its processes may take, what they take now, and how much of
# that is file contents that can be given up (version 2, then 1).
_GROUPS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of main memory that are free or can be freed, `UNKNOWN` where nobody says.

    Args:
        groups: where the system shows the process's control group.
    """
    free = [UNKNOWN]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
    except OSError:
        pass
    for folder, limit, used, file_contents in _GROUPS:
        place = groups / folder
        try:
            left = int((place / limit).read_text()) - int((place / used).read_text())
            numbers = dict(x.split() for x in (place / "memory.stat").read_text().splitlines())
            free.append(left + int(numbers.get(file_contents, 0)))
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
