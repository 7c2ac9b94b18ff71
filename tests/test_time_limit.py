"""Code that has no end is ended; other code is left alone."""

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial

import pytest

from easyep.time_limit import within


def endless() -> None:
    while True:
        pass


def limited() -> None:
    within(0.05, endless)


def test_what_has_no_end_is_ended() -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"more than 0.05 seconds"):
        limited()
    assert time.monotonic() - begin < 30


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "step", [lambda: 9 ** int("387420489"), lambda: re.match("(a+)+$", "a" * 40 + "b")]
)
def test_single_steps_without_an_end_are_ended(step: Callable[[], object]) -> None:
    """No step of Python code ends inside of them."""
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"more than 0.1 seconds"):
        within(0.1, step)
    assert time.monotonic() - begin < 60
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def stubborn() -> None:
    with contextlib.suppress(TimeoutError):
        endless()
    endless()


def test_who_swallows_it_hears_it_again() -> None:
    with pytest.raises(TimeoutError, match=r"more than 0.05 seconds"):
        within(0.05, stubborn)


def in_a_thread(task: Callable[[], None]) -> list[Exception]:
    """What was raised there, and in the half of a second behind it."""
    told: list[Exception] = []

    def listening() -> None:
        for do in (task, lambda: spin(0.5)):
            try:
                do()
            except TimeoutError as error:
                told.append(error)

    thread = threading.Thread(target=listening, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return told


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_in_another_thread_too() -> None:
    (told,) = in_a_thread(limited)
    assert "more than 0.05 seconds" in str(told)


def test_what_is_late_in_its_last_step_is_told_once() -> None:
    """A step that waits is not ended in another thread; what was raised then comes behind it."""
    reads, writes = os.pipe()
    closing = threading.Timer(0.5, os.close, [writes])
    closing.start()

    def task() -> None:
        with open(reads, "rb") as pipe:
            within(0.1, lambda: list(pipe))

    (told,) = in_a_thread(task)
    assert "more than 0.1 seconds" in str(told) or "too long" in str(told)
    closing.join()


def inside() -> None:
    within(60, lambda: spin(60))


def behind() -> None:
    within(60, lambda: spin(0))
    9 ** int("387420489")


@pytest.mark.parametrize("task", [inside, behind])
def test_one_within_another(task: Callable[[], None]) -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"more than 0.2 seconds"):
        within(0.2, task)
    assert time.monotonic() - begin < 30


def test_waiting_is_ended_in_the_main_thread() -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"more than 0.1 seconds"):
        within(0.1, lambda: time.sleep(60))
    assert time.monotonic() - begin < 30


def test_nothing_is_raised_where_python_clears_away() -> None:
    """It would be printed there, and forgotten: pytest makes it a failure."""

    def slow(phase: str, info: dict[str, int]) -> None:
        spin(0.01)

    class Slow:
        def __del__(self) -> None:
            spin(0.01)

    def untidy() -> None:
        while True:
            gc.collect(0)
            Slow()
            spin(0.01)

    gc.callbacks.append(slow)
    try:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                within(0.05, untidy)
    finally:
        gc.callbacks.remove(slow)


class Held:
    """What a weak reference can be to."""


def churn() -> None:
    """Half of its time nothing can be raised: a weak reference calls what looks like all else."""
    references = []
    while True:
        held = Held()
        references.append(weakref.ref(held, lambda _: spin(0.01)))
        del held
        spin(0.01)


def test_where_nothing_can_be_raised_it_is_heard_later() -> None:
    """Pytest would tell what Python prints."""
    hook = sys.unraisablehook
    for k in range(40, 60):
        with pytest.raises(TimeoutError):
            within(k / 1000, churn)
    assert sys.unraisablehook is hook


def test_what_another_thread_forgets_it_hears_again() -> None:
    hook = sys.unraisablehook
    for k in range(40, 56, 2):
        told = in_a_thread(partial(within, k / 1000, churn))
        assert len(told) == 1
    assert sys.unraisablehook is hook


def test_weak_sets_keep_no_objects_that_are_gone() -> None:
    """Their callbacks are Python code, where signals are heard first after a long step in C."""
    weak: weakref.WeakSet[Held] = weakref.WeakSet()

    def fill() -> None:
        while True:
            weak.update([Held() for _ in range(100)])

    for k in range(20):
        with pytest.raises(TimeoutError):
            within(0.05 + k / 1000, fill)
    gc.collect()
    assert not vars(weak)["data"]


def test_other_errors_that_python_prints_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def __del__(self) -> None:
            raise KeyError("k")

    def dropping() -> None:
        Failing()

    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
    within(10, lambda: within(10, dropping))
    dropping()
    assert told == [KeyError, KeyError]


def raising(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("error", [TimeoutError("of a socket"), KeyError("k")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error.args[0])):
        within(10, lambda: raising(error))


def test_what_ends_in_time_is_left_alone() -> None:
    assert within(0.05, lambda: sum(range(10))) == 45
    time.sleep(0.1)


@pytest.mark.parametrize("seconds", [k / 1000 for k in range(1, 21)])
@pytest.mark.parametrize("work", [time.sleep, spin])
def test_nothing_is_raised_behind_it(seconds: float, work: Callable[[float], None]) -> None:
    """Whenever the bell rings: inside, or never."""
    outside = False
    try:
        within(seconds, lambda: work(seconds))
        outside = True
        for _ in range(1000):
            pass
    except TimeoutError:
        assert not outside


def test_a_tracer_goes_on_behind_what_was_late() -> None:
    """It stood still where CPython looked for ever for an exception that was taken back."""
    program = """
import sys, threading, time
from easyep.time_limit import within

def late():
    try:
        within(0.01, lambda: time.sleep(0.1))
    except TimeoutError:
        print("late")

thread = threading.Thread(target=late)  # there the exception is CPython's own
thread.start()
thread.join()
sys.settrace(lambda *_: None)
(lambda: None)()
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True)
    assert done.stdout.split() == [b"late", b"went", b"on"], done.stderr.decode()
