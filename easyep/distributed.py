"""Several processes that observe one model together: how their records meet, and how they end.

Each runs its share of the demonstrations, or of each layer's experts where the model is streamed;
rank 0 keeps the records, in the order of a single process.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from easyep.errors import NotFirstRankError, PeerError, first_line
from easyep.launcher import Rank, rank

T = TypeVar("T")

# Seconds: how long a process that fails waits for the others, to tell them why, and how long they
# may take to hear it.
_TELLING, _HEARING = 20, 3
_LISTENING = 0.5  # seconds between two looks
_FAILURE, _HOST = "easyep/failure", "easyep/host/"
# What torch says where a connection to another process ends.
_CONNECTION = ("gloo/transport", "NCCL error", "Connection closed by peer", "ProcessGroup")
_HEARD: list[str] = []  # why another process has failed, where rank 1 has listened
_CONTROL: list[Any] = []  # the group of processes that records and agreements go through


class Group:
    """The processes of one run. One process alone is a group too, which never waits.

    Args:
        here: this process.
        timeout: seconds after which a process that has not come counts as hung.
    """

    def __init__(self, here: Rank, timeout: int) -> None:
        self.here, self._timeout = here, timeout

    def agree(self, value: T) -> T:
        """Rank 0's value, in every process.

        Raises:
            PeerError: another process has failed, is gone or hangs.
        """
        if self.here.size == 1:
            return value
        box: list[Any] = [value]
        self.meet("ask what is to be done")
        with _blaming("say what is to be done", 2 * self._timeout):
            _dist().broadcast_object_list(box, src=0, group=_CONTROL[0])
        agreed: T = box[0]
        return agreed

    def collect(self, own: T, count: int) -> Iterator[T]:
        """In rank 0, what each of the first `count` processes gives, by rank; nothing in others.

        Rank 0 holds one of them at a time beside its own.

        Raises:
            PeerError: another process has failed, is gone or hangs.
        """
        if self.here.first:
            yield own
        if self.here.size == 1:
            return
        self.meet("finish its demonstrations")
        for sender in range(1, count):
            box: list[Any] = [own]
            with self.exchanging("its records") as group:
                if self.here.first:
                    _dist().recv_object_list(box, src=sender, group=group)
                elif self.here.number == sender:
                    _dist().send_object_list(box, dst=0, group=group)
            if self.here.first:
                yield box[0]

    @contextmanager
    def exchanging(self, what: str) -> Iterator[Any]:
        """torch's group of processes, to exchange `what` through; each must do the same.

        Raises:
            PeerError: another process has failed, is gone or hangs.
        """
        with _blaming(f"exchange {what}", 2 * self._timeout):
            yield _CONTROL[0]

    @contextmanager
    def computing(self) -> Iterator[None]:
        """A model computes whose weights may lie in other processes, which it gets by itself.

        Raises:
            PeerError: another process has failed, is gone or hangs.
        """
        with _blaming("hand over its weights", 2 * self._timeout, only=_CONNECTION):
            yield

    def leave_the_rest_to_the_first(self) -> None:
        """Raises NotFirstRankError in all processes but rank 0, which goes on alone."""
        if not self.here.first:
            raise NotFirstRankError(
                f"{self.here} has done its share; rank 0 has what all of them recorded"
            )

    def meet(self, what: str) -> None:
        """Wait until all processes are here. Rank 0 waits shorter: it can tell who is missing.

        Args:
            what: that a process which does not come has not done.

        Raises:
            PeerError: another process has failed, is gone or hangs.
        """
        if self.here.size == 1:
            return
        seconds = self._timeout if self.here.first else 2 * self._timeout + _TELLING
        with _blaming(what, seconds):
            _dist().monitored_barrier(
                _CONTROL[0], timeout=timedelta(seconds=seconds), wait_all_ranks=True
            )


ALONE = Group(Rank(), 0)


def join(timeout: int) -> Group:
    """The group of all processes that the launcher has started, once all of them have come.

    Raises:
        PeerError: not all of them come in time.
    """
    here = rank()
    if here.size == 1:
        return ALONE
    dist = _dist()
    try:
        if not dist.is_initialized():
            dist.init_process_group(_backend(), timeout=timedelta(seconds=2 * timeout + _TELLING))
        if not _CONTROL:
            _CONTROL.append(dist.new_group(backend="gloo", timeout=timedelta(seconds=2 * timeout)))
            _store().set(f"{_HOST}{here.number}", socket.gethostname())
            if here.number == 1:
                threading.Thread(target=_listen).start()
    except (RuntimeError, ValueError) as error:
        raise PeerError(
            f"{here} did not meet the other processes at {os.environ.get('MASTER_ADDR')}:"
            f"{os.environ.get('MASTER_PORT')}: {first_line(error)}"
        ) from error
    return Group(here, timeout)


def tell_failure(cause: str) -> str | None:
    """Tell all processes why this one fails; then `until_heard`.

    Returns:
        What is to be said here; None where another process has failed first, and says so.
    """
    here = rank()
    if here.size == 1:
        return cause
    message = f"{here}: {cause}"
    try:
        join(_TELLING)
        failed = _store().compare_set(_FAILURE, "", message).decode()
    except (PeerError, RuntimeError):  # rank 0 kept what was told, and is gone
        if not here.first:
            return last_words()
        failed = message
    if here.first and _CONTROL:
        _dist().destroy_process_group(_CONTROL.pop())
    elsewhere = failed and f"on {socket.gethostname()}:" not in failed and here.local == 0
    return failed if failed == message or elsewhere else None


def last_words() -> str | None:
    """What rank 1 says for rank 0 where that was killed; None in others, or where it was not.

    `torchrun` keeps by itself what was told, and names who was killed: then nothing is to be said.
    """
    here = rank()
    if here.number != 1 or not _CONTROL or _HEARD:
        return None
    try:
        _store().check([_FAILURE])
    except RuntimeError:
        return (
            f"{here}: rank 0 has ended before its time; if it has not said why, it was killed, "
            "perhaps since memory ran out"
        )
    return None


def _listen() -> None:
    """Hear why another process fails while rank 0, which keeps it, is there."""
    store = _store()
    while not _HEARD and threading.main_thread().is_alive():
        time.sleep(_LISTENING)
        try:
            if store.check([_FAILURE]):
                _HEARD.append(str(store.get(_FAILURE).decode()))
        except RuntimeError:
            return


def until_heard() -> None:
    """Wait, in rank 0, until the others have heard why one fails: it goes with this process."""
    here = rank()
    if here.first and here.size > 1:
        time.sleep(_HEARING)


@contextmanager
def _blaming(what: str, seconds: int, only: tuple[str, ...] = ("",)) -> Iterator[None]:
    """Say who it is that did not do `what` in time, and why if it has told.

    Args:
        only: words, of which one is in the error if it is of another process.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in only):
            raise
        failed = heard()
        if failed:
            raise PeerError(failed) from error
        named = re.search(r"Ranks? (\d+(?:, ?\d+)*) failed to pass", str(error))
        missing = named[1] if named else ""
        if not named and rank().size == 2:  # a closed connection has no name, but only one end
            missing = str(1 - rank().number)
        raise PeerError(
            f"{_whose(missing) if missing else 'another process'} did not {what}: it was killed, "
            f"perhaps since memory ran out, or was silent for {seconds} s (--peer-timeout)"
        ) from error


def heard() -> str:
    """Why another process has failed; empty if none has told within a moment."""
    if not _CONTROL:  # it has not met the others yet
        return ""
    patience = 0.5 if rank().first else _HEARING  # rank 0 is the one that can tell who is missing
    until = time.monotonic() + patience
    try:
        store = _store()
        while not store.check([_FAILURE]):
            if time.monotonic() > until:
                return ""
            time.sleep(0.1)
        return str(store.get(_FAILURE).decode())
    except RuntimeError:
        return ""


def _whose(ranks: str) -> str:
    numbers = [number.strip() for number in ranks.split(",")]
    try:
        return " and ".join(f"rank {n} on {_store().get(_HOST + n).decode()}" for n in numbers)
    except RuntimeError:
        return f"rank {ranks}"


def _backend() -> str:
    import torch

    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def _store() -> Any:
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()


def _dist() -> Any:
    import torch.distributed

    return torch.distributed
