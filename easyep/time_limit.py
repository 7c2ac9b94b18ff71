"""Python code that somebody else wrote, such as a chat template, gets so much time and no more."""

import ctypes
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# How often a block looks at the clock, in seconds of processor time.
_OFTEN = 0.5


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """A block that is ended where it takes longer.

    It ends between two steps of Python code, in whichever thread it runs. Of single steps without
    an end, powers of numbers and Python's own patterns are ended in the main thread; others, such
    as a library's, come to their own end first.

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
            with _within_steps(seconds):
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


@contextmanager
def _within_steps(seconds: float) -> Iterator[None]:
    """Ends single steps of the main thread too: they look for signals, and for nothing else.

    The timer is that of processor time, which leaves the usual one to programs around this.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    end, inside = time.monotonic() + seconds, True

    def ring(number: int, frame: FrameType | None) -> None:
        if inside and time.monotonic() >= end:  # several threads use up processor time faster
            raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, _OFTEN, _OFTEN)
    try:
        try:
            yield
        finally:
            inside = False  # nothing is raised while the timer is put away
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


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
