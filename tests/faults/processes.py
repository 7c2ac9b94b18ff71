"""Commands in processes of their own, which begin at once, and what befalls them."""

import ctypes
import faulthandler
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

PATIENCE = 300  # seconds, of those in which this process was not stopped itself

# A server that has imported all this forks: a command begins at once.
_PRELOAD = [__name__, "easyep.pipeline", "easyep.observation.streaming", "lm_eval.evaluator"]


@dataclass(frozen=True)
class Limits:
    """What a command may not have.

    Attributes:
        file_bytes: no file may grow beyond this, as on a full disk.
        memory_bytes: address space beyond what the process begins with.
        obeys_permissions: for root, who is otherwise above them.
    """

    file_bytes: int | None = None
    memory_bytes: int | None = None
    obeys_permissions: bool = False


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        code: its exit code; negative = the signal that ended it.
        said: its standard output and standard error.
    """

    code: int
    said: str

    @property
    def clear(self) -> bool:
        """Whether it ended well, was killed, or ended with one error and no traceback."""
        errors = re.findall(r"^easyep: error: ", self.said, re.MULTILINE)
        quiet = "Traceback" not in self.said and "a fault of easyep" not in self.said
        return quiet and len(errors) == (1 if self.code in (1, 130, 143) else 0)


class Running:
    """A command under way."""

    def __init__(self, words: tuple[str, ...], folder: Path, limits: Limits) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        begun, tell = context.Pipe(duplex=False)
        self._output, write = context.Pipe(duplex=False)
        self._process: ForkServerProcess = context.Process(
            target=_command, args=(words, str(folder), limits, tell, write)
        )
        self._process.start()
        tell.close()
        write.close()
        begun.poll(60)
        begun.close()

    def strike(self, number: int) -> None:
        """Send a signal; nothing happens where the command has ended."""
        if self._process.is_alive() and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def wait(self) -> Done:
        """Wait for the end.

        Raises:
            AssertionError: none came within `PATIENCE`; it says what the command said, and where
                each of its threads was. The command is killed.
        """
        said, ended = self._read(PATIENCE)
        if not ended:
            self.strike(signal.SIGUSR1)  # see _command
            said += self._read(5)[0]
            self.strike(signal.SIGKILL)
        self._process.join(60)
        told = said.decode(errors="replace")
        assert ended, f"the command hangs: {told}"
        assert self._process.exitcode is not None, f"closed its output and hangs: {told}"
        return Done(self._process.exitcode, told)

    def _read(self, seconds: float) -> tuple[bytes, bool]:
        """What is said within so many seconds, and whether that was all."""
        said, last = b"", time.monotonic()
        while seconds > 0:
            if self._output.poll(1):
                part = os.read(self._output.fileno(), 1 << 16)
                if not part:
                    return said, True
                said += part
            now = time.monotonic()
            seconds, last = seconds - min(now - last, 2), now
        return said, False


def run(words: tuple[str, ...], folder: Path, limits: Limits) -> Done:
    """A command from its beginning to its end."""
    return Running(words, folder, limits).wait()


def run_struck(words: tuple[str, ...], folder: Path, number: int, after: float) -> Done:
    """A command that gets the signal `number` so many seconds after it began."""
    running = Running(words, folder, Limits())
    time.sleep(after)
    running.strike(number)
    return running.wait()


def _command(
    words: tuple[str, ...], folder: str, limits: Limits, tell: Connection, write: Connection
) -> None:
    from easyep.cli import main

    os.chdir(folder)
    for descriptor in (1, 2):
        os.dup2(write.fileno(), descriptor)
    write.close()
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.register(signal.SIGUSR1, file=2)
    if limits.obeys_permissions and os.geteuid() == 0:
        _forget_that_root_may_all()
    if limits.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes, resource.RLIM_INFINITY))
    if limits.memory_bytes is not None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = now + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    tell.close()
    try:
        main(words)
    finally:  # what follows is multiprocessing's, which makes exit code 1 of a late signal
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _forget_that_root_may_all() -> None:
    """Drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capset(2), version 3)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then their upper halves
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for i in range(3):
        sets[i] &= ~0b110
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")
