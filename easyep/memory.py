"""How much memory there is."""

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
