"""Code that takes too much memory is ended; the process goes on as before."""

import resource
import threading

import pytest

from easyep.allocation_limit import allocation_limit
from easyep.memory import of_this_process

MORE = 300_000_000


def limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_DATA)


def test_what_takes_more_is_ended_and_the_process_goes_on() -> None:
    before = limits()
    with (
        pytest.raises(MemoryError, match=r"^it takes more than 0\.1 GB of memory$"),
        allocation_limit(100_000_000),
    ):
        bytearray(MORE)
    assert limits() == before
    assert len(bytearray(MORE)) == MORE


def test_what_takes_less_is_left_alone() -> None:
    with allocation_limit(2 * MORE):
        assert len(bytearray(MORE)) == MORE


def test_other_errors_pass() -> None:
    before = limits()
    with pytest.raises(KeyError), allocation_limit(MORE):
        raise KeyError
    assert limits() == before


def test_blocks_of_several_threads_leave_no_limit_behind() -> None:
    before, inside, leave = limits(), threading.Event(), threading.Event()

    def other() -> None:
        with allocation_limit(MORE):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with allocation_limit(MORE):
        thread.start()
        assert inside.wait(10)
    assert limits() != before  # the other block goes on
    leave.set()
    thread.join()
    assert limits() == before


def test_a_limit_that_is_lower_already_stays() -> None:
    soft, hard = limits()
    lower = of_this_process("VmData") + MORE
    resource.setrlimit(resource.RLIMIT_DATA, (lower, hard))
    try:
        with allocation_limit(10 * MORE):
            assert limits() == (lower, hard)
        assert limits() == (lower, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
