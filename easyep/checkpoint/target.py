"""Where a pruned checkpoint may be written, and whether it fits."""

import os
import re
import shutil
from pathlib import Path

from easyep.atomic import check_absent, existing
from easyep.errors import OutputError

# Left free beside what is written: file systems need some room for themselves.
SPARE_BYTES = 16 * 1024 * 1024


def check_target(target: str | os.PathLike[str], source: Path, needed: int) -> Path:
    """Check that a directory of `needed` bytes can be written to `target`.

    Args:
        target: the directory to be; it may exist if it is empty.
        source: the checkpoint that is read (resolved); the target must lie outside of it.
        needed: bytes that will be written.

    Returns:
        The absolute path of the target.

    Raises:
        OutputError: it exists and is not empty, is or lies in the source, is not writable, or
            has not enough room; the message says which.
    """
    path = Path(target).expanduser()
    place = path.resolve()
    if place == source or place.is_relative_to(source) or source.is_relative_to(place):
        raise OutputError(f"{path} overlaps the source {source}; choose a directory beside it")
    place, folder = check_absent(path), existing(place.parent)
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise OutputError(
            f"{path} needs {_gigabytes(needed)}, but only {_gigabytes(free)} are free on the file "
            f"system of {folder}; free some room or choose another place{_leftovers(place)}"
        )
    return place


def _leftovers(place: Path) -> str:
    """What runs that were killed left beside `place` (see `atomic.appearing`), in words."""
    pattern = re.compile(re.escape(f".{place.name}.") + r"\w{8}")
    try:
        names = sorted(p.name for p in place.parent.iterdir() if pattern.fullmatch(p.name))
    except OSError:
        return ""
    if not names:
        return ""
    return f" (unless a run still writes there, {', '.join(names)} beside it can be removed)"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
