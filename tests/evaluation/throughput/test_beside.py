"""What is predicted from two measured points, on a machine whose numbers are known."""

import pytest

from easyep import resources
from easyep.evaluation.roofline.machine import Machine
from easyep.evaluation.throughput import beside
from easyep.evaluation.throughput.results import Point
from easyep.evaluation.throughput.timing import RequestTiming, RoundTiming
from easyep.evaluation.throughput.workload import Workload

DEMO = str(resources.demo_model())
SAID = {DEMO: {"transformers": "5", "dtype": "float32"}}


@pytest.fixture
def machine(monkeypatch):
    made = Machine("m", 1, 1e12, 1e9, {"float32": 1e12}, "made up")
    monkeypatch.setattr(beside, "probe", lambda device, dtype: made)


def measured(batch: int, prefill: float, step: float) -> Point:
    """A round of `batch` requests: seconds of the prefill and of each of three steps."""
    times = tuple((prefill + i * step, 1) for i in range(4))
    request = RequestTiming(0.0, times)
    return Point(DEMO, Workload(8, 4, batch), (RoundTiming(8, (request,) * batch),))


def free(*batches: int) -> tuple[dict[int, float], dict[int, float]]:
    """The bounds of a prefill and of a step at each batch, seconds."""
    points = [measured(batch, 1.0, 1.0) for batch in batches]
    found = beside.bounds(points, SAID, "cpu")["points"]
    prefill = {
        b: 8 * b / each["prefill_throughput"] for b, each in zip(batches, found, strict=True)
    }
    decode = {b: b / each["decode_throughput"] for b, each in zip(batches, found, strict=True)}
    return prefill, decode


def test_two_points_tell_of_the_others(machine):
    prefill, decode = free(1, 4, 16)
    # Every pass takes 5 ms and three times its bound, but for one, which takes 1 ms more.
    points = [
        measured(b, 0.005 + 3 * prefill[b], 0.005 + 3 * decode[b] + (0.001 if b == 4 else 0))
        for b in (16, 4, 1)
    ]
    found = beside.bounds(points, SAID, "cpu")
    for phase in ("prefill", "decode"):
        known = found["calibration"][phase]
        assert known["overhead_seconds"] == pytest.approx(0.005)
        assert known["slowdown"] == pytest.approx(3)
        assert [each["max_concurrency"] for each in known["measured_at"]] == [1, 16]
    large, middle, small = (each["predicted"] for each in found["points"])
    assert large["decode_throughput"]["error"] is small["prefill_throughput"]["error"] is None
    assert middle["prefill_throughput"]["error"] == pytest.approx(0, abs=1e-9)
    taken = 0.005 + 3 * decode[4]
    assert middle["decode_throughput"]["value"] == pytest.approx(4 / taken)
    assert middle["decode_throughput"]["error"] == pytest.approx(0.001 / taken)


def test_one_point_tells_the_overhead_alone(machine):
    prefill, decode = free(4)
    found = beside.bounds([measured(4, prefill[4] + 0.002, decode[4] + 0.003)], SAID, "cpu")
    said = {phase: found["calibration"][phase] for phase in ("prefill", "decode")}
    assert said["prefill"]["overhead_seconds"] == pytest.approx(0.002)
    assert said["decode"]["overhead_seconds"] == pytest.approx(0.003)
    assert said["prefill"]["slowdown"] == said["decode"]["slowdown"] == 1


def test_nothing_is_faster_than_the_machine(machine):
    _, decode = free(1, 16)
    points = [measured(b, 1.0, 0.5 * decode[b]) for b in (1, 16)]
    known = beside.bounds(points, SAID, "cpu")["calibration"]["decode"]
    assert (known["overhead_seconds"], known["slowdown"]) == (0, 1)


def test_without_measurements_nothing_is_predicted(machine):
    ended = Point(DEMO, Workload(8, 4, 1), (), None, "no memory")
    found = beside.bounds([ended], SAID, "cpu")
    assert found["points"] == []
    assert found["calibration"] == {"prefill": None, "decode": None}
