"""Files that others give, read without waiting for ever and without filling memory."""

import errno
import os
from pathlib import Path


def without_waiting(path: str, flags: int) -> int:
    """An `opener` of `open`: a named pipe that nobody writes to is empty, and not waited for."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)  # one that somebody writes to is read to its end
    return descriptor


def read_whole(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a file, of a pipe, or of a device.

    Raises:
        OSError: it cannot be read, or has more than `most` bytes.
    """
    with open(path, "rb", opener=without_waiting) as file:
        content = bytearray()  # room for all that may be in it is not asked for beforehand
        while part := file.read(1 << 20):
            content += part
            if len(content) > most:
                raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(Path(path)))
    return bytes(content)
