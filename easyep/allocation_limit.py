"""Code that somebody else wrote, such as a chat template, gets so much memory and no more."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from easyep.memory import of_this_process

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# What templates and answers that are meant well need is a small part of this.
LARGEST = 2_000_000_000

_change = threading.Lock()
_blocks = 0
_before = (0, 0)


@contextmanager
def allocation_limit(nbytes: int = LARGEST) -> Iterator[None]:
    """A block in which the process may take `nbytes` of memory beside what it has.

    What other threads take meanwhile counts, too; of blocks that overlap, the first one's limit
    holds. Where the system cannot limit a process nothing happens.

    Raises:
        MemoryError: it takes more.
    """
    global _blocks, _before
    if resource is None:
        yield
        return
    with _change:
        if not _blocks:
            _before = resource.getrlimit(resource.RLIMIT_DATA)
            most = of_this_process("VmData") + nbytes
            if _before[0] == resource.RLIM_INFINITY or most < _before[0]:
                resource.setrlimit(resource.RLIMIT_DATA, (most, _before[1]))
        _blocks += 1
    try:
        yield
    except MemoryError:
        raise MemoryError(f"it takes more than {nbytes / 1e9:g} GB of memory") from None
    finally:
        with _change:
            _blocks -= 1
            if not _blocks:
                resource.setrlimit(resource.RLIMIT_DATA, _before)
