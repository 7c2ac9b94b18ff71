import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from easyep.observation.lanes import Lane, wait


def test_lanes_run_one_at_a_time_and_get_their_answers() -> None:
    log: list[object] = []

    def work(name: str) -> None:
        log.append((name, wait(f"{name} wants 1")))
        log.append((name, wait(f"{name} wants 2")))

    lanes = [Lane(lambda name=name: work(name)) for name in "ab"]
    assert [lane.resume() for lane in lanes] == ["a wants 1", "b wants 1"]
    assert log == []
    assert [lane.resume(i) for i, lane in enumerate(lanes)] == ["a wants 2", "b wants 2"]
    assert log == [("a", 0), ("b", 1)]
    assert [lane.resume(9) for lane in lanes] == [None, None]
    assert all(lane.done for lane in lanes)
    assert log[2:] == [("a", 9), ("b", 9)]


def test_an_error_comes_out_where_the_lane_was_resumed() -> None:
    def work() -> None:
        wait("something")
        raise KeyError("lost")

    lane = Lane(work)
    lane.resume()
    with pytest.raises(KeyError, match="lost"):
        lane.resume()
    assert lane.done


def test_a_stopped_lane_unwinds_and_its_thread_ends() -> None:
    closed: list[str] = []

    def work() -> None:
        try:
            wait("for ever")
        finally:
            closed.append("closed")

    before = threading.active_count()
    lane = Lane(work)
    lane.resume()
    assert threading.active_count() == before + 1
    lane.stop()
    assert closed == ["closed"]
    assert threading.active_count() == before
    lane.stop()  # again is fine


def test_a_lane_that_never_ran_can_be_stopped() -> None:
    Lane(lambda: None).stop()


def test_a_lane_whose_thread_cannot_start_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lane = Lane(lambda: None)
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", no_room)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            lane.resume()
    stopping = threading.Thread(target=lane.stop, daemon=True)
    stopping.start()
    stopping.join(timeout=60)
    assert not stopping.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_lane_that_waits_has_no_idle_threads() -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = torch.get_num_threads()
    numbers = torch.ones(400, 400)
    seen: list[int] = []

    def work() -> None:
        torch.set_num_threads(4)  # of this thread
        _ = numbers @ numbers
        seen.append(threads())
        wait("something")

    lanes = [Lane(work) for _ in range(4)]
    waiting = []
    for lane in lanes:
        lane.resume()
        waiting.append(settled(threads, seen[-1] - 3))
    for lane in lanes:
        lane.stop()
    torch.set_num_threads(before)  # MKL's number is the process's: other tests compare bits
    first = waiting[0]  # the first brings threads that all share
    assert waiting == [first, first + 1, first + 2, first + 3]
    assert [at_work - at_rest for at_work, at_rest in zip(seen, waiting, strict=True)] == [3] * 4


def settled(count: Callable[[], int], expected: int) -> int:
    """What `count` gives when it has come to `expected`, or does not within five seconds."""
    end = time.monotonic() + 30
    while (found := count()) != expected and time.monotonic() < end:
        time.sleep(0.02)
    return found
