"""A memory control group around a measured process: a limit in which file contents count too.

What a process has read or written stays in memory as long as there is room, and is charged to its
group. In a group with a limit the kernel has to give it up; where nothing is left to give up, it
kills.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ELSEWHERE = (
    "a memory control group (version 1) cannot be made here; a limit can be set from outside:\n"
    "    systemd-run --user --scope -p MemoryMax=6G -p MemorySwapMax=0 python ..."
)


@contextmanager
def limited(gib: float) -> Iterator[Path]:
    """A group of that size below this process's own, for a child to `enter`; gone at the end."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line.split(":", 2)[2] for line in lines if line.split(":")[1] == "memory")
        group = Path("/sys/fs/cgroup/memory") / own.strip("/") / f"benchmark-{os.getpid()}"
        group.mkdir()
    except (OSError, StopIteration):
        sys.exit(ELSEWHERE)
    try:
        (group / "memory.limit_in_bytes").write_text(str(int(gib * (1 << 30))))
        yield group
    finally:
        group.rmdir()


def enter(group: Path) -> None:
    """Put this process into a group."""
    (group / "cgroup.procs").write_text(str(os.getpid()))


def facts(group: Path) -> dict[str, float]:
    """The most that was charged to the group, and how often it was at its limit."""
    return {
        "limit_gib": int((group / "memory.limit_in_bytes").read_text()) / (1 << 30),
        "most_gib": round(int((group / "memory.max_usage_in_bytes").read_text()) / (1 << 30), 3),
        "times_at_the_limit": int((group / "memory.failcnt").read_text()),
    }
