"""What a reader must not do whatever it reads: hang, eat memory, write elsewhere, run code."""

import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 10.0  # of the processor: other programs may take as much of the clock as they like
WAITING = 300  # of the clock, without computing; those in which the process is stopped do not count
MEMORY = 1 << 30  # bytes of address space beyond what the process has

# Events of `sys.addaudithook` that no reader has a reason for.
_FORBIDDEN = {
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen"),
    *("pickle.find_class", "socket.connect", "ctypes.dlopen"),
}
_CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod"}

_inside: list[Path] = []
_found: list[str] = []
_others: set[int] = set()  # threads that an earlier test has left


class HangError(BaseException):
    """A case computed for longer than `SECONDS`, or waited for `WAITING`."""


class MisdeedError(AssertionError):
    """A reader did what none may do."""


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if not _inside or threading.get_ident() in _others:
        return
    if event in _FORBIDDEN:
        _found.append(f"{event} {arguments[:2]}")
    writes = event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if event not in _CHANGES and not writes:
        return
    for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
        within = arguments[-1] if isinstance(arguments[-1], int) and event != "open" else -1
        if within < 0 and isinstance(path, str | bytes | os.PathLike):  # else: beside a descriptor
            where = Path.cwd() / os.fsdecode(path)
            if not where.is_relative_to(_inside[-1]) and "__pycache__" not in where.parts:
                _found.append(f"{event} {where}")


sys.addaudithook(_listen)


def _ring_late(done: threading.Event) -> None:
    for _ in range(WAITING):
        if done.wait(1):
            return
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGPROF)


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """A block that may write into `folder` only, for `SECONDS`, within `MEMORY`.

    In the main thread, which alone hears signals.

    Raises:
        MisdeedError: it wrote elsewhere, started a program, connected or unpickled.
        HangError: it took too long.
    """

    def ring(number: int, frame: object) -> None:
        raise HangError(f"more than {SECONDS:g} seconds, or nothing for {WAITING}")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    handler = signal.signal(signal.SIGPROF, ring)
    done = threading.Event()
    _found.clear()
    _others.clear()
    _others.update(thread.ident or 0 for thread in threading.enumerate())
    _others.discard(threading.get_ident())
    threading.Thread(target=_ring_late, args=(done,), daemon=True).start()
    _inside.append(folder.resolve())
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        done.set()
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGPROF, handler)
        _inside.pop()
    if _found:
        raise MisdeedError("; ".join(_found))
