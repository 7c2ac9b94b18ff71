"""A signal is heard even where the exception that it raises is lost."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from easyep.cli.signals import listening


class Struck:
    """Gets a signal while it is destroyed."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)
        time.sleep(0.2)


def destroy(number: int) -> None:
    struck = Struck(number)
    del struck
    time.sleep(60)


@pytest.fixture(autouse=True)
def _interrupts_are_heard() -> Iterator[None]:
    """A shell has programs in its background ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "terminated"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_in_a_destructor(number: int, terminated: bool) -> None:
    begin, before = time.monotonic(), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), listening() as signals:
        destroy(number)
    assert time.monotonic() - begin < 30
    assert bool(signals) == terminated
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: listening().__enter__())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
