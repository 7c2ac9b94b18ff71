"""Several forward passes in lock-step: each runs until it has to wait, one at a time.

Every pass has a thread of its own, so that it can stop anywhere in the model's code and go on from
there; a baton sees to it that only one of them, or the driver, ever runs. So the model's own
forward runs unchanged, while all passes are at the same layer.
"""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from easyep import memory

# A lane's Python frames are few; the default of 8 MiB of address space for each would add up.
STACK_BYTES = 2 * 1024 * 1024


class Stopped(BaseException):
    """Thrown into a lane that is not to go on; not an Exception, so that no model catches it."""


class Lane:
    """One pass. The driver resumes it; it runs until it waits, and says what for.

    Args:
        work: what runs in the lane's thread; it may call `wait`.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._go, self._told = threading.Semaphore(0), threading.Semaphore(0)
        self._answer: Any = None
        self._stop = False
        self.waiting_for: Any = None
        self.done = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def resume(self, answer: Any = None) -> Any:
        """Run the lane until it waits or ends, and hand its `wait` the `answer`.

        Returns:
            What it waits for now; None when it has ended.

        Raises:
            BaseException: what the lane's work raised, or that there is no room for its thread.
        """
        self._answer, self.waiting_for = answer, None
        if self._thread is None:
            self._thread = self._started()
        else:
            self._go.release()
        self._told.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self.waiting_for

    def stop(self) -> None:
        """End the lane where it waits."""
        if self._thread is not None and not self.done:
            self._stop = True
            self._go.release()
            self._told.acquire()
        if self._thread is not None:
            self._thread.join()

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, daemon=True)
        before = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
        return thread

    def _run(self) -> None:
        _LANE.set(self)
        try:
            self._work()
        except Stopped:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.done = True
            self._told.release()

    def _wait(self, what: Any) -> Any:
        self.waiting_for = what
        memory.give_back_idle_threads()
        self._told.release()
        self._go.acquire()
        if self._stop:
            raise Stopped
        return self._answer


_LANE: ContextVar[Lane | None] = ContextVar("easyep_lane", default=None)


def wait(what: Any) -> Any:
    """Hand the baton to the driver until it resumes this lane; what it answered.

    Args:
        what: tells the driver what the lane needs.
    """
    lane = _LANE.get()
    assert lane is not None, "only a lane can wait"
    return lane._wait(what)
