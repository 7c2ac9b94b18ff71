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
    thread = ctypes.c_ulong(threading.get_ident())
    change = threading.Lock()
    done = late = False

    def ring() -> None:
        nonlocal late
        with change:
            if not done:
                late = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TimeoutError))

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
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
    except TimeoutError:
        raise TimeoutError(f"it takes more than {seconds:g} seconds") from None
    if late:
        raise TimeoutError(f"it takes more than {seconds:g} seconds")
