import threading

import pytest

from easyep.observation.lanes import Lane, in_lane, wait


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


def test_code_knows_whether_it_runs_in_a_lane() -> None:
    seen: list[bool] = []
    Lane(lambda: seen.append(in_lane())).resume()
    assert seen == [True]
    assert not in_lane()
