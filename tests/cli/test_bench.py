"""`easyep bench` as somebody types it."""

import json

import pytest

from easyep import cli
from easyep.checkpoint.files import Checkpoint
from easyep.cli.bench_tables import show
from easyep.evaluation.throughput.results import Point, Throughput, gain
from easyep.evaluation.throughput.timing import RequestTiming, RoundTiming
from easyep.evaluation.throughput.workload import Workload
from easyep.resources import demo_model

FAST = ["--lengths", "4+4", "--num-iters", "2", "--device", "cpu", "--dtype", "float32"]


def run(capsys, *words) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_two_models_in_one_run(capsys, pruned, tmp_path):
    file = tmp_path / "throughput.json"
    words = [pruned.path, "--against", "demo", "--batch-size", 2, "--output", file]
    code, out, err = run(capsys, "bench", *words, *FAST)
    assert code == 0, err
    for title in ("At a fixed batch", "Latency", "Gain at a fixed batch"):
        assert title in out
    assert "within" not in out
    found = json.loads(file.read_text())
    points = found["fixed_batch"]["results"]
    assert [point["model"] for point in points] == [str(pruned.path), "demo"]
    assert all(point["completed"] == 4 for point in points)
    assert all(point["decode_throughput"] > 0 for point in points)
    beside = found["roofline"]["points"]
    assert [each["experts"] for each in beside] == [16, 32]
    # A bound is one: nothing is faster than the machine.
    assert all(0 < part <= 1.2 for each in beside for part in each["reached"].values())
    weights = [each["weights_bytes"] for each in found["settings"]["engines"].values()]
    assert weights[0] < weights[1]
    assert found["settings"]["models"] == {
        str(pruned.path): Checkpoint.open(pruned.path).identity("").to_json(),
        "demo": Checkpoint.open(demo_model()).identity("").to_json(),
    }
    assert list(found["fixed_batch"]["gains"][0]["per_instance"])[:2] == [
        "prefill_throughput",
        "decode_throughput",
    ]


def test_a_prediction(capsys, root):
    config = root / "benchmarks/configs/deepseek-r1.json"
    words = ["bench", config, "--predict", "h200x8", "--lengths", "1024+1024"]
    code, out, _ = run(capsys, *words, "--keep", "0.5")
    assert code == 0
    assert "Upper bounds, nothing was measured" in out
    assert "346.0 GB" in out
    _, out, _ = run(capsys, *words, "--keep", "64", "--max-concurrency", "8", "--json")
    found = json.loads(out)
    assert [each["experts"] for each in found["fixed_batch"]] == [256, 64]
    _, out, _ = run(capsys, *words, "--input-len", 256, "--output-len", 8, "--json")
    asked = {
        (each["random_input_len"], each["random_output_len"])
        for each in json.loads(out)["fixed_batch"]
    }
    assert asked == {(1024, 1024), (256, 8)}
    assert run(capsys, *words, "--input-len", 256)[0] == 2
    assert run(capsys, *words, "--against", "demo")[0] == 2
    assert run(capsys, "bench", "demo", "--keep", "0.5")[0] == 2
    code, _, err = run(capsys, "bench", config, "--predict", "h2000")
    assert (code, "did you mean 'h200'" in err) == (1, True)


def test_a_request_rate_needs_a_server(capsys):
    rate = ["--request-rate", "4", "--num-prompts", 3]
    code, _, err = run(capsys, "bench", "demo", *rate, *FAST)
    assert (code, "--backend openai" in err) == (1, True)
    assert run(capsys, "bench", "demo", "--num-prompts", 3, *FAST)[0] == 2


def _served(model: str, seconds: float, workload: Workload) -> Point:
    requests = (RequestTiming(0.0, ((seconds, 1), (2 * seconds, 3))),) * 2
    return Point(model, workload, (RoundTiming(4, requests, workload.paced),))


def _throughput(*workloads: Workload) -> Throughput:
    pairs = [(_served("half", 0.5, each), _served("full", 1.0, each)) for each in workloads]
    points = tuple(point for pair in pairs for point in pair)
    gains = tuple(found for pair in pairs if (found := gain(*pair)) is not None)
    return Throughput(("half", "full"), points, gains, None, (), (), (), {}, {})


def test_request_rates_are_no_batches(capsys):
    batch, rate = Workload(4, 4, 2), Workload(4, 4, 2, request_rate=3.0, num_prompts=2)
    for workloads, titles in (((batch, rate), 2), ((rate,), 1), ((batch,), 1)):
        found = _throughput(*workloads)
        show(found)
        out = capsys.readouterr().out
        assert (
            ("At a fixed batch" in out) == ("Gain at a fixed batch" in out) == (batch in workloads)
        )
        assert (
            ("At request rates" in out) == ("Gain at request rates" in out) == (rate in workloads)
        )
        assert out.count("full") == 2 * titles
        said = found.to_json()
        rates = [each["request_rate"] for each in said["fixed_batch"]["results"]]
        assert rates == ["inf"] * 2 * (batch in workloads)
        assert ("request_rates" in said) == (rate in workloads)
    assert [
        each["request_rate"] for each in _throughput(rate).to_json()["request_rates"]["gains"]
    ] == [3.0]


def test_a_memory_budget_is_a_result_of_its_own(capsys):
    budget = ["--memory-budget", "100kB", "--batch-size", 1]
    code, out, err = run(capsys, "bench", "demo", *budget, *FAST, "--json")
    assert code == 0
    assert "does not fit the memory budget" in err
    found = json.loads(out)
    assert found["within_memory"] == {
        "memory_budget_bytes": 100_000,
        "largest_batches": [
            {"model": "demo", "lengths": [4, 4], "measured": 0, "predicted": 0},
        ],
        "results": [],
        "gains": [],
    }
    assert len(found["fixed_batch"]["results"]) == 1
