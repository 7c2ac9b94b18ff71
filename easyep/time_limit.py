"""Python code that somebody else wrote, such as a chat template, gets so much time and no more."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """A block that is ended where it takes longer.

    It ends between two steps of Python code, in whichever thread it runs; one long step of a
    library, such as the matching of a pattern, comes to its own end first.

    Raises:
        TimeoutError: it took longer.
    """
    thread = threading.get_ident()
    change = threading.Lock()
    done = late = False

    def ring() -> None:
        nonlocal late
        with change:
            if not done:
                late = True
                _raise_in(thread)

    clock = threading.Timer(seconds, ring)
    clock.daemon = True
    clock.start()
    try:
        try:
            yield
        finally:
            with change:
                done = True
            clock.cancel()
            if late:  # rung, and perhaps not heard yet: it must not be raised behind the block
                _hear(thread)
    except TimeoutError:
        raise TimeoutError(f"it takes more than {seconds:g} seconds") from None
    if late:
        raise TimeoutError(f"it takes more than {seconds:g} seconds")


def _raise_in(thread: int) -> None:
    """Have TimeoutError raised at the next step of Python code in a thread, once."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(TimeoutError)
    )


def _hear(thread: int) -> None:
    """Have nothing wait to be raised in this thread.

    What waits could be taken back instead. But then CPython goes on looking for it in all threads
    for ever, and a debugger or a coverage tracer stands still at the next function (3.11).
    """
    try:
        _raise_in(thread)  # in the place of what waits
        while True:
            pass
    except TimeoutError:
        return
