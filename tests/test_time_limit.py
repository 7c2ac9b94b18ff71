"""Code that has no end is ended; other code is left alone."""

import contextlib
import gc
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from easyep.time_limit import time_limit


def endless() -> None:
    with time_limit(0.05):
        while True:
            pass


def test_what_has_no_end_is_ended() -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"more than 0.05 seconds"):
        endless()
    assert time.monotonic() - begin < 30


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "step", [lambda: 9 ** int("387420489"), lambda: re.match("(a+)+$", "a" * 40 + "b")]
)
def test_single_steps_without_an_end_are_ended(step: Callable[[], object]) -> None:
    """No step of Python code ends inside of them."""
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"more than 0.1 seconds"), time_limit(0.1):
        step()
    assert time.monotonic() - begin < 60
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def stubborn() -> None:
    with time_limit(0.05):
        with contextlib.suppress(TimeoutError):
            while True:
                pass
        while True:
            pass


def test_who_swallows_it_hears_it_again() -> None:
    with pytest.raises(TimeoutError, match=r"more than 0.05 seconds"):
        stubborn()


@pytest.mark.parametrize("task", [endless, stubborn])
def test_in_another_thread_too(task: Callable[[], None]) -> None:
    told: list[Exception] = []

    def listening() -> None:
        try:
            task()
        except TimeoutError as error:
            told.append(error)

    thread = threading.Thread(target=listening, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert len(told) == 1


def test_waiting_is_ended_in_the_main_thread() -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"more than 0.1 seconds"), time_limit(0.1):
        time.sleep(60)
    assert time.monotonic() - begin < 30


def test_nothing_is_raised_where_python_clears_away() -> None:
    """It would be printed there, and forgotten: pytest makes it a failure."""

    def spin() -> None:
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass

    def slow(phase: str, info: dict[str, int]) -> None:
        spin()

    class Slow:
        def __del__(self) -> None:
            spin()

    def untidy() -> None:
        with time_limit(0.05):
            while True:
                gc.collect(0)
                Slow()
                spin()

    gc.callbacks.append(slow)
    try:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                untidy()
    finally:
        gc.callbacks.remove(slow)


def test_another_error_of_time_stays_what_it_is() -> None:
    with pytest.raises(TimeoutError, match="of a socket"), time_limit(10):
        raise TimeoutError("of a socket")


def test_what_ends_in_time_is_left_alone() -> None:
    with time_limit(0.05):
        done = sum(range(10))
    time.sleep(0.1)
    assert done == 45


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), time_limit(10):
        raise KeyError


@pytest.mark.parametrize("seconds", [k / 1000 for k in range(1, 21)])
def test_nothing_is_raised_behind_the_block(seconds: float) -> None:
    """Whenever the bell rings: inside, or never."""
    outside = False
    try:
        with time_limit(seconds):
            time.sleep(seconds)
        outside = True
        for _ in range(1000):
            pass
    except TimeoutError:
        assert not outside


def test_a_tracer_goes_on_behind_a_late_block() -> None:
    """It stood still where CPython looked for ever for an exception that was taken back."""
    program = """
import sys, threading, time
from easyep.time_limit import time_limit

try:
    with time_limit(0.01):
        time.sleep(0.1)
except TimeoutError:
    pass
sys.settrace(lambda *_: None)
(lambda: None)()
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True)
    assert done.stdout.split() == [b"went", b"on"], done.stderr.decode()
