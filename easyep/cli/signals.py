"""Ctrl-C and `kill`, heard wherever they meet the program."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SOON = 0.01  # seconds


@contextmanager
def listening() -> Iterator[list[int]]:
    """A block in which SIGTERM raises KeyboardInterrupt, as SIGINT does anyway.

    An exception, unlike the signal, lets folders under temporary names be removed. One that is
    raised inside of a destructor is lost: Python tells of it and goes on. The signal is given
    again then.

    Yields:
        The SIGTERMs that came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    terminated: list[int] = []
    told = sys.unraisablehook

    def terminate(number: int, frame: object) -> None:
        terminated.append(number)
        raise KeyboardInterrupt

    def lost(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            told(unraisable)
            return
        # Not here: what is raised in this function is lost as well.
        number = signal.SIGTERM if terminated else signal.SIGINT
        main = threading.main_thread().ident
        again = threading.Timer(_SOON, signal.pthread_kill, (main, number))
        again.daemon = True
        again.start()

    before = signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = lost
    try:
        yield terminated
    finally:
        sys.unraisablehook = told
        signal.signal(signal.SIGTERM, before)


def ignore_termination() -> None:
    """From now on SIGTERM does nothing: this process is about to end by itself."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
