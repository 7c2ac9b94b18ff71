"""Python code that somebody else wrote, such as a chat template, gets so much time and no more."""

import contextlib
import ctypes
import gc
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

# Seconds between two rings of a bell.
_AGAIN = 0.1

# What stops half-way in these leaves its state wrong for all that follows: a module that is there
# in part, or an object that is gone and still counted.
_DELICATE = {"importlib._bootstrap", "weakref", "_weakrefset"}


class _LateError(TimeoutError):
    def __str__(self) -> str:
        return "it takes too long"


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns; it is ended where it takes longer.

    It ends between two steps of Python code, in whichever thread it runs. Of single steps without
    an end, waiting for others, powers of numbers and Python's own patterns are ended in the main
    thread; others, such as a library's, come to their own end first. In the main thread code that
    catches every exception is ended, too. A context manager that stands inside may be ended while
    it cleans up.

    This is no context manager: from CPython 3.12 on, what is raised where a loop of the block's
    own begins anew passes the block's end.

    Args:
        seconds: of the clock.
        work: called once.

    Raises:
        TimeoutError: it took longer.
    """
    end = time.monotonic() + seconds
    main = threading.current_thread() is threading.main_thread()
    alarm: _Signals | _Exceptions = (_Signals if main else _Exceptions)(seconds)
    late = TimeoutError(f"it takes more than {seconds:g} seconds")
    _forgotten.start()
    try:
        alarm.start()
        result = work()
    except TimeoutError:
        if time.monotonic() < end:
            raise
        raise late from None
    finally:
        alarm.stop()
        _forgotten.stop()
    if time.monotonic() >= end:
        raise late
    return result


class _Forgotten:
    """Python prints what it cannot raise, such as in a callback of a weak reference, and goes on.

    Of a limit it prints nothing here, and the bell rings again. All else goes to the hook before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits = 0

    def start(self) -> None:
        with self._lock:
            self._limits += 1
            if self._limits == 1:
                self._before = sys.unraisablehook
                sys.unraisablehook = self._hook = _passing_on(self._before)

    def stop(self) -> None:
        with self._lock:
            self._limits -= 1
            if self._limits == 0 and sys.unraisablehook is self._hook:
                sys.unraisablehook = self._before


def _passing_on(before: Callable[["sys.UnraisableHookArgs"], Any]) -> Callable[..., None]:
    def hook(told: "sys.UnraisableHookArgs") -> None:
        if not issubclass(told.exc_type, _LateError):
            before(told)
            return
        for alarm in _here.alarms:
            alarm.forgotten()

    return hook


class _Signals:
    """For the main thread, which alone hears signals: even single steps and waiting look for them.

    The bell is another thread. While a step leaves no other thread any time, a timer rings: that
    of processor time, which leaves the usual one to programs around this.
    """

    def __init__(self, seconds: float) -> None:
        main = threading.get_ident()
        self._seconds = seconds
        self._bell = _Bell(seconds, lambda: signal.pthread_kill(main, signal.SIGVTALRM))

    def start(self) -> None:
        self._end = time.monotonic() + self._seconds
        before = signal.signal(signal.SIGVTALRM, self._hear)
        # What is sent late may come when this has ended; of its own the signal ends the process.
        self._before = before if callable(before) else _hear_nothing
        self._timer = signal.setitimer(signal.ITIMER_VIRTUAL, _AGAIN, _AGAIN)
        try:
            self._bell.start()
        except BaseException:  # such as that of a system that has no more threads
            self.stop()
            raise

    def stop(self) -> None:
        self._bell.stop()
        signal.setitimer(signal.ITIMER_VIRTUAL, *self._timer)
        signal.signal(signal.SIGVTALRM, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() >= self._end and not _delicate(frame):
            raise _LateError
        if getattr(self._before, "__func__", None) is _Signals._hear:  # this block is in another
            self._before(number, frame)


def _hear_nothing(number: int, frame: FrameType | None) -> None:
    """In the place of what SIGVTALRM does of its own."""


class _Exceptions:
    """For any thread: CPython raises there what another thread asks for.

    Once: it comes at one of the next steps, which may be behind the block already if that ended
    meanwhile, and must not come again there. Only what was forgotten comes again.
    """

    def __init__(self, seconds: float) -> None:
        self._thread = threading.get_ident()
        self._bell = _Bell(seconds, self._ring)
        self._rang = False
        self._over = False

    def start(self) -> None:
        _here.alarms.append(self)
        self._bell.start()

    def stop(self) -> None:
        self._over = True
        self._bell.stop()
        _here.alarms.remove(self)
        if self._rang:  # and was perhaps not heard yet: nothing must be raised behind the block
            self._hear()

    def forgotten(self) -> None:
        if self._rang and not self._over:
            self._bell = _Bell(_AGAIN, self._ring)
            self._bell.start()

    def _ring(self) -> bool:
        if _delicate(sys._current_frames().get(self._thread)):
            return False
        self._rang = True
        self._raise()
        return True

    def _raise(self) -> None:
        """Have TimeoutError raised at the thread's next step of Python code, once."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._thread), ctypes.py_object(_LateError)
        )

    def _hear(self) -> None:
        """Have nothing wait to be raised in this thread.

        What waits could be taken back instead. But then CPython goes on looking for it in all
        threads for ever, and a debugger or a coverage tracer stands still at the next function
        (3.11).
        """
        with contextlib.suppress(_LateError):
            self._raise_on()

    def _raise_on(self) -> None:
        while True:  # even what is raised here may be forgotten
            self._raise()  # in the place of what waits


class _Here(threading.local):
    """The limits of this thread that stand."""

    def __init__(self) -> None:
        self.alarms: list[_Exceptions] = []


_forgotten = _Forgotten()
_here = _Here()


class _Bell:
    """Rings after so many seconds, again and again, until it is stopped or `ring` is content."""

    def __init__(self, seconds: float, ring: Callable[[], Any]) -> None:
        self._seconds, self._ring = seconds, ring
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Behind this it does not ring."""
        with self._lock:
            self._stop.set()

    def _wait(self) -> None:
        pause = self._seconds
        while not self._stop.wait(pause):
            with self._lock:
                if self._stop.is_set() or self._ring():
                    return
            pause = _AGAIN


def _delicate(frame: FrameType | None) -> bool:
    """Whether nothing should be raised here, but a little later, if it still is late then.

    That is where this module itself is at work, where Python clears away objects, since what is
    raised there is forgotten, and in `_DELICATE`. And it is everywhere outside of what `within`
    calls.
    """
    hooks = {getattr(hook, "__code__", None) for hook in gc.callbacks}
    here = frame
    while frame is not None:
        code = frame.f_code
        if code is within.__code__:
            return frame is here
        if frame.f_globals is globals() or frame.f_globals.get("__name__") in _DELICATE:
            return True
        if code in hooks or code.co_name == "__del__":
            return True
        frame = frame.f_back
    return True
