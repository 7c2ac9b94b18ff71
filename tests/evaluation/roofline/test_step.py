"""The roofline's formulas, worked by hand in plain numbers."""

import json
import math
from functools import partial

import numpy as np
import pytest

import easyep
from easyep.errors import EvaluationError, UnknownNameError
from easyep.evaluation.roofline.machine import Machine, accelerators, machine
from easyep.evaluation.roofline.predict import predict
from easyep.evaluation.roofline.probe import probe
from easyep.evaluation.roofline.reading import read_decoder
from easyep.evaluation.roofline.step import decode, largest_batch, prefill
from easyep.evaluation.roofline.traffic import Traffic, recorded, uniform
from tests import records


@pytest.fixture(scope="module")
def config(root):
    return root / "benchmarks/configs/deepseek-r1.json"


@pytest.fixture(scope="module")
def r1(config):
    return read_decoder(json.loads(config.read_text()))


def test_distinct_experts():
    even = uniform(58, 256, 8)
    for tokens in (1, 7, 1000):
        assert even.distinct(tokens) == pytest.approx(58 * 256 * (1 - (1 - 8 / 256) ** tokens))
    assert even.distinct(1) == pytest.approx(58 * 8)
    skewed = Traffic(np.array([[0.9, 0.6, 0.3, 0.2]]))
    assert skewed.distinct(2) == pytest.approx(0.99 + 0.84 + 0.51 + 0.36)
    assert skewed.distinct(2) < uniform(1, 4, 2).distinct(2)


def test_pruned_traffic_still_routes_each_token_to_k_experts():
    skewed = Traffic(np.array([[0.9, 0.6, 0.3, 0.2], [0.5, 0.5, 0.5, 0.5]]))
    assert skewed.pruned(4).shares.sum(axis=1) == pytest.approx([2, 2])
    three = skewed.pruned(3).shares
    # 0.9 x 2 / 1.8 is all tokens; the other two share the rest.
    assert three[0] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert three[1] == pytest.approx([2 / 3] * 3)
    assert skewed.pruned(2).shares == pytest.approx(np.ones((2, 2)))
    with pytest.raises(EvaluationError):
        skewed.pruned(5)


def test_layers_that_used_few_experts_can_still_be_pruned():
    shares = Traffic(np.array([[1.0, 1.0, 0.0, 0.0]])).pruned(3).shares
    assert shares.sum() == pytest.approx(2)
    assert shares.max() <= 1


def test_recorded_traffic_is_the_share_of_tokens(math_observations):
    traffic = recorded([math_observations])
    assert traffic.recorded
    assert traffic.shares.shape == (4, 32)  # the MTP layer is left out
    first = math_observations.layers[1].expert_ids
    share = np.mean([(row == 5).any() for row in first])
    assert traffic.shares[0, 5] == pytest.approx(share)
    assert traffic.shares.sum(axis=1) == pytest.approx([4] * 4)
    assert traffic.distinct(64) < uniform(4, 32, 4).distinct(64)


def test_a_decoding_step_by_hand(r1):
    h200 = machine("h200x8")
    taken = decode(r1, h200, uniform(58, 256, 8), 64, 1024, 1024)
    touched = 58 * 256 * (1 - (31 / 32) ** 64)
    experts = touched * 44_050_944
    # Everything that is no routed expert and no embedding table: attention with a latent vector of
    # 576, three dense layers, 58 shared experts and routers, the head, norms.
    dense = 11_416_299_520 + 1_190_871_808 + 2_554_954_752 + 58 * 256 * (7168 * 2 + 4)
    dense += 129280 * 7168 * 2 + 7168 * 2
    cache = 64 * (1024 + 512) * 70_272
    assert taken.expert_bytes == pytest.approx(experts, rel=1e-12)
    assert taken.dense_bytes == pytest.approx(dense, rel=1e-3)
    assert taken.cache_bytes == cache
    assert taken.memory_seconds == pytest.approx(
        (experts + taken.dense_bytes + cache) / (8 * 4.8e12), rel=1e-12
    )
    # Scores over 576 numbers and sums over 512, in 128 heads of 61 layers.
    attention = 2 * 128 * (576 + 512) * 61 * 1536
    flops = 64 * (2 * r1.active_numbers + attention + 2 * 129280 * 7168)
    assert taken.flops == pytest.approx(flops, rel=1e-12)
    assert taken.compute_seconds == pytest.approx(flops / (8 * 1979e12), rel=1e-12)
    assert taken.bound == "experts"


def test_prefill_is_bound_by_compute_and_gains_nothing(r1):
    h200 = machine("h200x8")
    before = prefill(r1, h200, uniform(58, 256, 8), 16, 1024)
    after = prefill(r1.pruned(128), h200, uniform(58, 128, 8), 16, 1024)
    assert before.bound == after.bound == "compute"
    # A token sees half of the prompt on average, with keys and values written out.
    attention = 2 * 128 * (128 + 64 + 128) * 61 * (1024 - 1023 / 2)
    tokens = 16 * 1024
    flops = tokens * (2 * r1.active_numbers + attention) + 16 * 2 * 129280 * 7168
    assert before.flops == pytest.approx(flops, rel=1e-12)
    # The router alone is smaller.
    assert before.flops - after.flops == pytest.approx(tokens * 2 * 58 * 128 * 7168, rel=1e-6)


def test_which_bound_binds(r1):
    slow = Machine("slow", 1, 1e13, 1e30, {"fp8": 1.0}, "")
    assert decode(r1, slow, uniform(58, 256, 8), 1, 10, 10).bound == "compute"
    wide = Machine("wide", 1, 1e13, 1.0, {"fp8": 1e30}, "")
    assert decode(r1, wide, uniform(58, 256, 8), 1, 10, 10).bound == "experts"
    assert decode(r1.pruned(8), wide, uniform(58, 8, 8), 1, 10, 10).bound == "experts"
    assert decode(r1, wide, uniform(58, 256, 8), 100_000, 4096, 4096).bound == "cache"


def test_at_batch_one_pruning_gains_nothing_and_never_more_than_the_experts_kept(r1):
    h200 = machine("h200x8")

    def speed(keep: int, batch: int) -> float:
        routes = uniform(58, keep, 8)
        return batch / decode(r1.pruned(keep), h200, routes, batch, 1024, 1024).seconds

    assert speed(128, 1) / speed(256, 1) == pytest.approx(1, abs=0.01)
    gains = [speed(128, batch) / speed(256, batch) for batch in (1, 4, 16, 64, 256)]
    assert gains == sorted(gains)
    assert max(gains) < 2


def test_the_largest_batch(r1):
    left = 0.9 * 1128e9 - r1.stored_bytes
    assert largest_batch(r1, 1128e9, 2048) == math.floor(left / (2048 * 70_272))
    assert largest_batch(r1, 1128e9, 2048, copies=8) == math.floor(left / (8 * 2048 * 70_272))
    assert largest_batch(r1, 640e9, 2048) == 0  # 673 GB of weights


def test_a_prediction_needs_config_json_alone(config):
    found = predict(config, "h200x8", keep=[0.5, 64], lengths=[(1024, 1024)], batch_sizes=[1, 64])
    assert list(found.decoders) == [256, 128, 64]
    assert len(found.fixed_batch) == 6
    value = json.loads(json.dumps(found.to_json()))
    assert value["expert_traffic"] == "uniform"
    assert value["fixed_batch"][0]["decode_bound"] == "experts"
    assert [each["experts"] for each in value["within_memory"]] == [256, 128, 64]
    # One node of eight H100 does not hold the whole model, but half of its experts.
    small = predict(config, "h100x8", lengths=[(1024, 1024)])
    assert [point.experts for point in small.within_memory] == [128]
    assert {point.experts for point in small.fixed_batch} == {128}
    assert easyep.predict is predict


def test_recorded_routing_predicts_more_than_uniform(math_observations, tmp_path):
    math_observations.save(tmp_path / "obs")
    asked = {"keep": [16], "lengths": [(64, 64)], "batch_sizes": [8]}
    even = predict("demo", "h100", **asked)
    found = predict("demo", "h100", observations=[tmp_path / "obs"], **asked)
    assert found.recorded
    for one, other in zip(found.fixed_batch, even.fixed_batch, strict=True):
        assert one.decode_throughput > other.decode_throughput


def test_recorded_routing_is_that_of_the_model(math_observations, tmp_path):
    other = records.observations(experts=8, layers=(0, 1))
    other.save(tmp_path / "other")
    math_observations.save(tmp_path / "obs")
    with pytest.raises(EvaluationError, match="a model with 2 layers of 8 experts, and demo has 4"):
        predict("demo", "h100", observations=[tmp_path / "other"])
    with pytest.raises(EvaluationError, match="of different models"):
        predict("demo", "h100", observations=[tmp_path / "obs", tmp_path / "other"])


def test_machines():
    eight = machine("H200x8")
    assert (eight.devices, eight.memory, eight.bandwidth) == (8, 8 * 141e9, 8 * 4.8e12)
    assert eight.peak_of("fp8") == 8 * 1979e12
    assert machine("a100").peak_of("fp8") == 312e12  # it has no units for FP8
    for name in accelerators():
        assert machine(name).source
    with pytest.raises(UnknownNameError, match="did you mean 'h200'"):
        machine("h2000")
    with pytest.raises(EvaluationError, match="at least one"):
        machine("h200x0")
    with pytest.raises(UnknownNameError):
        machine("h200x" + "9" * 400)  # more than a number can hold


def test_the_probe_finds_what_a_computer_can_have():
    found = probe("cpu")
    assert 1e8 < found.bandwidth < 1e13
    assert 1e8 < found.peak_of("float32") < 1e15
    assert found.memory > 0


@pytest.mark.parametrize(("flops", "side"), [(1e12, 1024), (4e8, 256), (1e6, 128)])
def test_the_probe_takes_no_long_products(monkeypatch, flops, side):
    """On processors that compute in bfloat16 step by step, large ones took a minute."""
    sides = []

    def fastest(work):
        if not isinstance(work, partial):
            return 0.01  # of looking through memory
        sides.append(work.args[0].shape[0])
        return 2 * sides[-1] ** 3 / flops

    monkeypatch.setattr("easyep.evaluation.roofline.probe._fastest", fastest)
    assert probe("cpu", "bfloat16").peak_of("bfloat16") == pytest.approx(flops)
    assert sides[-1] == side
