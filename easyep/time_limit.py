"""Python code that somebody else wrote, such as a chat template, gets so much time and no more."""

import ctypes
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Seconds between two rings of a bell: code may swallow what is raised in it.
_AGAIN = 0.1


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """A block that is ended where it takes longer.

    It ends between two steps of Python code, in whichever thread it runs. Of single steps without
    an end, waiting for others, powers of numbers and Python's own patterns are ended in the main
    thread; others, such as a library's, come to their own end first.

    Raises:
        TimeoutError: it took longer.
    """
    main = threading.current_thread() is threading.main_thread()
    end = time.monotonic() + seconds
    try:
        with _by_signals(seconds) if main else _by_exceptions(seconds):
            yield
        if time.monotonic() >= end:
            raise TimeoutError
    except TimeoutError:
        if time.monotonic() < end:
            raise
        raise TimeoutError(f"it takes more than {seconds:g} seconds") from None


@contextmanager
def _by_signals(seconds: float) -> Iterator[None]:
    """For the main thread, which alone hears signals: even single steps and waiting look for them.

    The bell is another thread. While a step leaves no other thread any time, a timer rings: that
    of processor time, which leaves the usual one to programs around this.
    """
    thread, end, inside = threading.get_ident(), time.monotonic() + seconds, False

    def hear(number: int, frame: FrameType | None) -> None:
        if inside and time.monotonic() >= end and not _cleans_up(frame):
            raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, hear)
    bell = _Bell(seconds, lambda: signal.pthread_kill(thread, signal.SIGVTALRM))
    try:
        try:
            bell.start()
            signal.setitimer(signal.ITIMER_VIRTUAL, _AGAIN, _AGAIN)
            inside = True
            yield
        finally:
            inside = False  # nothing is raised while bells and timers are put away
    finally:
        bell.stop()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)  # hears first what has been sent


@contextmanager
def _by_exceptions(seconds: float) -> Iterator[None]:
    """For any thread: CPython raises there what another thread asks for."""
    thread = threading.get_ident()
    bell = _Bell(seconds, lambda: _raise_in(thread))
    try:
        bell.start()
        yield
    finally:
        while not bell.stopped:
            try:
                bell.stop()
            except TimeoutError:
                continue
        if bell.rang:  # and was perhaps not heard yet: nothing must be raised behind the block
            _hear(thread)


class _Bell:
    """Rings after so many seconds, again and again, until it is stopped.

    Attributes:
        rang: it did so at least once.
        stopped: it never will again.
    """

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._wait, args=(seconds,), daemon=True)
        self.start = self._thread.start
        self.rang = self.stopped = False

    def stop(self) -> None:
        """Behind this it does not ring."""
        with self._lock:
            self.stopped = True
        self._stop.set()

    def _wait(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            with self._lock:
                if self.stopped:
                    return
                self.rang = True
                self._ring()
            seconds = _AGAIN


def _cleans_up(frame: FrameType | None) -> bool:
    """Whether Python clears away objects there, where what is raised is printed and forgotten."""
    hooks = {getattr(hook, "__code__", None) for hook in gc.callbacks}
    while frame is not None:
        if frame.f_code in hooks or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


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
