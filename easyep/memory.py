"""How much memory there is, and how it is given back."""

import ctypes
import platform
from functools import cache
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows: no limits for single processes there
    resource = None  # type: ignore[assignment]

UNKNOWN = 1 << 62

# Where a control group says how much its processes may take, what they take now, and how much of
# that is file contents that can be given up (version 2, then 1).
_GROUPS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of main memory that are free or can be freed, `UNKNOWN` where nobody says.

    Args:
        groups: where the system shows control groups.
        own: the file that says which are this process's.
    """
    free = [UNKNOWN]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
    except OSError:
        pass
    if resource is not None:  # what this process alone may allocate
        allowed = resource.getrlimit(resource.RLIMIT_DATA)[0]
        if allowed != resource.RLIM_INFINITY:
            free.append(allowed - of_this_process("VmData"))
    for folder, limit, used, file_contents in _GROUPS:
        for place in _own_groups(groups / folder, folder, own):
            try:
                left = int((place / limit).read_text()) - int((place / used).read_text())
                numbers = dict(x.split() for x in (place / "memory.stat").read_text().splitlines())
                free.append(left + int(numbers.get(file_contents, 0)))
            except (OSError, ValueError):  # ValueError: "max", no limit
                continue
    return max(0, min(free))


def _own_groups(top: Path, controller: str, own: Path) -> list[Path]:
    """A process's control group and all that it lies in, in one hierarchy.

    Within a container the group's name may be one of the world outside; what it is limited to is
    shown at the top then.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        lines = []
    names = [name for _, controllers, name in lines if controller in controllers.split(",")]
    inner = top / names[0].strip("/") if names else top
    return [each for each in (inner, *inner.parents) if each.is_relative_to(top)]


def taken() -> int:
    """Bytes of main memory that this process takes beside the contents of files, 0 if unknown."""
    return of_this_process("RssAnon")


def of_this_process(name: str) -> int:
    """A number of bytes that the system tells of this process (``VmData``), 0 if unknown."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


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


def give_back_idle_threads() -> None:
    """End the OpenMP threads that wait to help this thread; they start again when they can.

    Every thread that computes has helpers of its own, one for each core but one, with stacks of 8
    MiB: on 16 cores 25 demonstrations, each in its thread, have 375 of them and 3 GB.
    """
    for pause in _openmp_pauses():
        pause(_OMP_PAUSE_SOFT)


@cache
def _openmp_pauses() -> list[Any]:
    """`omp_pause_resource_all` (OpenMP 5.0, section 3.2.44) of each OpenMP library in use."""
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    files = dict.fromkeys(line.split()[-1] for line in maps if ".so" in line)
    openmp = [
        file for file in files if Path(file).name.startswith(("libgomp", "libiomp", "libomp"))
    ]
    found = [getattr(ctypes.CDLL(file), "omp_pause_resource_all", None) for file in openmp]
    return [each for each in found if each is not None]


def give_back_freed() -> None:
    """Hand what the C library holds of freed memory back to the kernel, where it can."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h> of glibc
_OMP_PAUSE_SOFT = 1  # <omp.h>
