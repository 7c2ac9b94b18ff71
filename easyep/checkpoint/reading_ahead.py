"""Asking the disk for parts of files before they are read, many at a time.

A read of a file that is not in memory waits for the disk. Where many small parts are read one
after the other these waits add up; a disk that is asked for all of them at once has them sooner.
"""

import os
from collections.abc import Iterable
from contextlib import suppress


def ask_for(path: str | os.PathLike[str], parts: Iterable[tuple[int, int]]) -> None:
    """Have the disk read parts of a file, as (begin, bytes); does not wait for it.

    Nothing happens where the system cannot be asked, or the file cannot be opened: who reads it
    will say so.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            for begin, nbytes in parts:
                os.posix_fadvise(descriptor, begin, nbytes, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)
