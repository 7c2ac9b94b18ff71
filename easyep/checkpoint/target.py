"""Where a pruned checkpoint may be written, and whether it fits."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from easyep.atomic import check_absent, existing, expanded
from easyep.checkpoint.work_folder import leftovers, refuse_other_runs
from easyep.errors import NoRoomError, OutputError

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
        OutputError: it exists and is not empty, is or lies in the source, is not writable, is
            written by another run; the message says which.
        NoRoomError: it does not fit.
    """
    path = expanded(target)
    place = Path(os.path.realpath(path))
    if place == source or place.is_relative_to(source) or source.is_relative_to(place):
        raise OutputError(f"{path} overlaps the source {source}; choose a directory beside it")
    place = check_absent(path)
    refuse_other_runs(place)
    # What runs that were cut short left there may be what this run goes on with.
    check_room(place, needed - sum(map(_bytes_in, leftovers(place))))
    return place


def check_room(target: Path, needed: int) -> None:
    """Raises NoRoomError where the file system of `target` has less than `needed` bytes free."""
    folder = existing(target.parent)
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise NoRoomError(
            f"{target} needs {_size(needed)}, but only {_size(free)} are free on the "
            f"file system of {folder}; free some room or choose another place"
            + "".join(f" ({told})" for told in told_leftovers(target))
        )


def told_leftovers(target: Path, own: Path | None = None) -> list[str]:
    """What other runs than that in the folder `own` left beside `target`, in words."""
    return [
        f"{folder} ({_size(_bytes_in(folder))}) is of a rewrite to {target.name} that was "
        "cut short: its command goes on from there, or the folder can be removed"
        for folder in leftovers(target)
        if folder != own
    ]


def _bytes_in(folder: Path) -> int:
    """What a folder takes on disk; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
