"""What `bench` decides before and after measuring."""

import pytest

import easyep
from easyep import resources
from easyep.evaluation.engines import EngineSettings
from easyep.evaluation.throughput.bench import _vocabulary
from tests.tiny_models import build


def test_prompts_have_no_special_tokens(tmp_path):
    ids = _vocabulary(resources.demo_model(), False)
    assert not {0, 1, 2} & set(ids)
    assert max(ids) == 511
    # Without a tokenizer there is nothing special to be known.
    path = build("qwen3_moe", tmp_path / "m")
    assert _vocabulary(path, False) == list(range(64))


def test_the_largest_batch_is_found_and_predicted_within_a_budget():
    found = easyep.bench(
        "demo",
        lengths=[(8, 4), (8, 4)],  # the same is measured once
        batch_sizes=[1],
        num_iters=1,
        memory_budget=20_000_000,
        settings=EngineSettings(dtype="float32", device="cpu"),
    )
    (largest,) = found.largest_batches
    assert largest["measured"] >= 1
    # Keys of 32 and values of 32 numbers, in 4 heads and 5 layers, for 12 tokens; about 15 MB of
    # weights that transformers loads, the MTP layer not among them.
    assert largest["predicted"] == pytest.approx((20e6 - 15e6) / (4 * 4 * 64 * 5 * 12), rel=0.3)
    (point,) = found.within_memory
    assert point.workload.batch_size == largest["measured"]
    assert len(found.points) == 1
