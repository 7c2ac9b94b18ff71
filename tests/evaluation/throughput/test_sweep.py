"""Turns, warm-up, the end of memory, and the largest batch, on an engine with a fake clock."""

from typing import Any

import pytest

from easyep.errors import EvaluationError
from easyep.evaluation.throughput.results import gain
from easyep.evaluation.throughput.sweep import Bench
from easyep.evaluation.throughput.workload import Workload
from tests.evaluation.throughput.fake_engine import Clock, FakeSession

VOCABULARY = range(3, 100)


def bench(of_a: Any = None, of_b: Any = None, **settings: Any) -> tuple[Bench, Any, Any]:
    clock, calls = Clock(), []
    opened: dict[str, list[FakeSession]] = {"a": [], "b": []}

    def opener(name: str, options: dict[str, Any]) -> Any:
        def open_it() -> FakeSession:
            opened[name].append(FakeSession(clock, calls, name, **options))
            return opened[name][-1]

        return open_it

    made = {"a": opener("a", of_a or {}), "b": opener("b", of_b or {})}
    return Bench(made, VOCABULARY, **settings), calls, opened


def group(batch: int, names: str = "ab") -> list[tuple[str, Workload]]:
    return [(name, Workload(10, 5, batch)) for name in names]


def test_models_take_turns_and_the_first_changes():
    runner, calls, _ = bench(repeats=2, warmups=1)
    points = runner.measure([group(1), group(2)])
    # A round of warm-up comes before the first of each point.
    first = [("a", 1), ("a", 1), ("b", 1), ("b", 1), ("b", 1), ("a", 1)]
    assert calls == first + [(name, 2) for name, _ in first]
    assert [(p.model, p.workload.batch_size) for p in points] == [
        ("a", 1),
        ("b", 1),
        ("a", 2),
        ("b", 2),
    ]


def test_both_models_get_the_same_prompts_which_change_from_round_to_round():
    runner, _, opened = bench(repeats=2, warmups=1)
    runner.measure([group(2)])
    a, b = opened["a"][0].prompts, opened["b"][0].prompts
    assert a == b
    assert a[0] != a[1] != a[2]


def test_rates_are_those_of_the_clock():
    runner, _, _ = bench({"step": 1.0, "each": 0.25}, {"step": 2.0, "each": 0.25})
    a, b = runner.measure([group(4)])
    assert a.rate("prefill_throughput") == pytest.approx(10)
    assert a.rate("decode_throughput") == pytest.approx(4 / 2)  # four tokens every 2 s
    assert b.rate("decode_throughput") == pytest.approx(4 / 3)
    assert a.latency("ttft") == pytest.approx(4)
    assert a.latency("tpot", 99) == pytest.approx(2)
    # 4 s of prefill, then four steps of 2 s: 20 tokens in 12 s
    assert a.rate("output_throughput") == pytest.approx(20 / 12)
    won = gain(a, b)
    assert won is not None
    assert won.per_instance["decode_throughput"] == pytest.approx(1.5)
    assert won.spread["decode_throughput"] == pytest.approx((1.5, 1.5))
    assert won.per_byte["decode_throughput"] == pytest.approx(1.5)  # the same memory


def test_memory_saved_counts_in_the_gain_per_byte():
    runner, _, _ = bench({"weights": 440}, {"weights": 940})
    a, b = runner.measure([group(4)])
    assert (a.peak_memory, b.peak_memory) == (500, 1000)
    won = gain(a, b)
    assert won is not None
    assert won.per_instance["decode_throughput"] == pytest.approx(1)
    assert won.per_byte["decode_throughput"] == pytest.approx(2)


def test_where_memory_ends_only_that_model_stops():
    runner, calls, _ = bench({"room": 4}, {"room": 1}, repeats=2, warmups=0)
    points = runner.measure([group(batch) for batch in (1, 2, 4, 8, 16)])
    done = [(p.model, p.workload.batch_size, len(p.rounds), p.ended) for p in points]
    assert done == [
        ("a", 1, 2, ""),
        ("b", 1, 2, ""),
        ("a", 2, 2, ""),
        ("b", 2, 0, "no room for 2"),
        ("a", 4, 2, ""),
        ("a", 8, 0, "no room for 8"),
    ]
    assert ("b", 4) not in calls
    assert ("a", 16) not in calls
    ended = points[3]
    assert ended.to_json()["ended"] == "no room for 2"
    assert gain(points[2], ended) is None


def test_other_lengths_are_tried_after_memory_ended():
    runner, calls, _ = bench({"room": 1}, repeats=1, warmups=0)
    longer = [("a", Workload(20, 5, 2))]
    runner.measure([group(2, "a"), longer])
    assert calls == [("a", 2), ("a", 2)]


def test_one_at_a_time_holds_one():
    runner, calls, opened = bench(repeats=2, warmups=0, one_at_a_time=True)
    points = runner.measure([group(1), group(2)])
    assert [name for name, _ in calls] == ["a", "a", "b", "b", "b", "b", "a", "a"]
    # b goes from the first repeat on to the second without being loaded again
    assert (len(opened["a"]), len(opened["b"])) == (2, 1)
    assert opened["a"][0].closed
    assert [len(point.rounds) for point in points] == [2] * 4
    runner.close()
    assert opened["a"][1].closed


@pytest.mark.parametrize(("budget", "expected"), [(1149, 9), (1150, 10), (1014, 0), (1015, 1)])
def test_the_largest_batch_within_a_budget(budget: int, expected: int):
    runner, _, _ = bench({"weights": 1000, "cache": 1})  # 15 tokens each
    assert runner.largest_batch("a", (10, 5), budget, 1000) == expected


def test_the_largest_batch_ends_at_the_limit_at_memory_or_where_the_engine_says():
    assert bench()[0].largest_batch("a", (10, 5), 10**9, 100) == 100
    assert bench({"room": 37})[0].largest_batch("a", (10, 5), 10**9, 100) == 37
    runner, calls, _ = bench({"says": 12})
    assert runner.largest_batch("a", (10, 5), 10**9, 100) == 12
    assert calls == []


def test_no_budget_where_the_engine_does_not_tell():
    runner, _, _ = bench({"tells": False})
    with pytest.raises(EvaluationError, match="does not tell how much memory"):
        runner.largest_batch("a", (10, 5), 2000, 100)


def test_a_fault_of_the_engine_is_not_the_end_of_memory():
    runner, _, opened = bench()
    runner.session("a")
    opened["a"][0].generate = lambda *_: (_ for _ in ()).throw(EvaluationError("broken"))  # type: ignore[method-assign]
    with pytest.raises(EvaluationError, match="broken"):
        runner.measure([group(1)])


def test_a_request_rate_is_for_a_session_that_can_be_paced():
    paced = Workload(10, 5, 2, request_rate=3.0, num_prompts=6)
    runner, calls, opened = bench(repeats=2)
    with pytest.raises(EvaluationError, match="--backend openai"):
        runner.measure([[("a", paced)]])
    assert calls == []

    asked = []

    def serve(prompts: Any, output_len: int, times: list[float], at_once: int) -> Any:
        asked.append((times, at_once))
        return opened["a"][0].generate(prompts, output_len)

    opened["a"][0].serve = serve  # type: ignore[attr-defined]
    found = runner.measure([[("a", paced)]])[0]
    assert asked == [(paced.arrivals(seed), 2) for seed in (0, 1)]
    assert [count for _, count in calls] == [2, 6, 6]  # the warm-up is a batch
    assert found.rate("prefill_throughput") is found.rate("decode_throughput") is None
    said = found.to_json()
    assert (said["request_rate"], said["num_prompts"], said["max_concurrency"]) == (3.0, 6, 2)
    assert said["prefill_throughput"] is None
    assert said["request_throughput"] > 0


def test_json_has_the_names_of_vllm():
    runner, _, _ = bench()
    found = runner.measure([group(2)])[0].to_json()
    names = "request_throughput output_throughput total_token_throughput completed duration"
    names += " mean_ttft_ms median_tpot_ms std_itl_ms p99_e2el_ms max_concurrency num_prompts"
    assert set(names.split()) <= set(found)
    assert (found["request_rate"], found["num_prompts"]) == ("inf", 2)
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (60, 30)
    assert found["median_tpot_ms"] == pytest.approx(1000)
    assert (found["completed"], found["rounds"]) == (6, 3)
