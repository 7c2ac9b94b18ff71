"""What Linux can do for large files beyond Python's `os`; elsewhere these calls do nothing."""

import ctypes
import errno
import os
from typing import Any

_SYNC_FILE_RANGE_WRITE = 2

# A file system that cannot reserve says one of these, NFS before 4.2 and ZFS among them.
_CANNOT = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV}


def reserve(descriptor: int, nbytes: int) -> None:
    """Make an empty file `nbytes` long, its room on disk its own, where the file system can.

    `os.posix_fallocate` is not used: where the file system cannot, the C library writes to every
    block instead, and the file would be written twice.

    Raises:
        OSError: there is no room.
    """
    if nbytes and _fallocate is not None:
        while _fallocate(descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(nbytes)):
            error = ctypes.get_errno()
            if error in _CANNOT:
                return
            if error != errno.EINTR:
                raise OSError(error, os.strerror(error))


def start_writing(descriptor: int, begin: int, end: int) -> None:
    """Have the bytes `begin` to `end` written to disk from now on, without waiting for it.

    The fsync at the end then finds little left to do. A disk that cannot follow makes this wait.
    """
    if _sync_file_range is not None:
        length = ctypes.c_int64(end - begin)
        _sync_file_range(descriptor, ctypes.c_int64(begin), length, _SYNC_FILE_RANGE_WRITE)


def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(None, use_errno=True), name, None)


_fallocate = _function("fallocate")
_sync_file_range = _function("sync_file_range")
