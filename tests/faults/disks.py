"""Disks that are small, where the machine lets one make them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DETACH = 2


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A block in which `folder`, which is empty, is a disk of so many bytes in memory.

    Raises:
        OSError: this process may not mount.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    place = os.fsencode(folder)
    if libc.mount(b"tmpfs", place, b"tmpfs", 0, b"size=%d" % size):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        yield
    finally:
        libc.umount2(place, _DETACH)


def may_mount(folder: Path) -> bool:
    """Whether this process can make such disks."""
    try:
        with small_disk(folder, 1 << 16):
            return True
    except OSError:
        return False
