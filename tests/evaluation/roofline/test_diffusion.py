"""Decoding by filling in: bounds by hand, and the behaviour that the literature reports."""

import json

import pytest

from easyep.errors import EvaluationError
from easyep.evaluation.roofline.diffusion import Decoding, generate
from easyep.evaluation.roofline.machine import machine
from easyep.evaluation.roofline.reading import read_decoder
from easyep.evaluation.roofline.step import decode
from easyep.evaluation.roofline.traffic import uniform

ONE, BLOCK, WHOLE = Decoding(1), Decoding(32, 2), Decoding(0, 2)


@pytest.fixture(scope="module")
def decoder(root):
    return read_decoder(json.loads((root / "benchmarks/configs/llada2-mini.json").read_text()))


@pytest.fixture(scope="module")
def speed(decoder):
    def of(decoding: Decoding, batch: int, keep: int = 256) -> float:
        routes = uniform(19, keep, 8)
        args = (decoder.pruned(keep), machine("h100"), routes, decoding, batch, 1024, 512)
        return generate(*args).throughput

    return of


def test_a_block_by_hand(decoder):
    h100, routes = machine("h100"), uniform(19, 256, 8)
    made = generate(decoder, h100, routes, BLOCK, 4, 1024, 512)
    assert made.passes == 256
    touched = 19 * 256 * (1 - (1 - 8 / 256) ** (4 * 32))
    assert made.step.expert_bytes == pytest.approx(touched * 3 * 2048 * 512 * 2, rel=1e-12)
    assert made.step.cache_bytes == 4 * 1280 * 20 * 2 * 4 * 128 * 2
    attention = 4 * 16 * 128 * 20 * 1280
    flops = 4 * 32 * (2 * decoder.active_numbers + attention + 2 * 157184 * 2048)
    assert made.step.flops == pytest.approx(flops, rel=1e-12)
    assert made.throughput == pytest.approx(4 * 2 / made.step.seconds)


def test_the_full_sequence_is_computed_in_every_pass(decoder):
    h100, routes = machine("h100"), uniform(19, 256, 8)
    made = generate(decoder, h100, routes, WHOLE, 1, 1024, 512)
    attention = 4 * 16 * 128 * 20 * 1536
    flops = 1536 * (2 * decoder.active_numbers + attention + 2 * 157184 * 2048)
    assert made.step.flops == pytest.approx(flops, rel=1e-12)


def test_one_after_the_other_is_ordinary_decoding(decoder, speed):
    taken = decode(decoder, machine("h100"), uniform(19, 256, 8), 8, 1024, 512)
    assert speed(ONE, 8) == pytest.approx(8 / taken.seconds)


def test_autoregressive_is_ahead_at_large_batches_where_diffusion_is_flat(speed):
    assert speed(ONE, 1024) > 1.5 * speed(BLOCK, 1024) > 1.5 * speed(WHOLE, 1024)
    # Four times the batch: nothing for who is bound by compute, much for the other.
    assert speed(WHOLE, 1024) / speed(WHOLE, 256) == pytest.approx(1, abs=1e-3)
    assert speed(BLOCK, 1024) / speed(BLOCK, 256) == pytest.approx(1, abs=1e-3)
    assert speed(ONE, 1024) / speed(ONE, 256) > 2


def test_pruning_pays_at_batch_one_where_a_block_is_computed(speed):
    assert speed(ONE, 1, 128) / speed(ONE, 1) == pytest.approx(1, abs=0.01)
    assert speed(BLOCK, 1, 128) / speed(BLOCK, 1) > 1.3


@pytest.mark.parametrize("wrong", [(-1, 1.0), (8, 0.0), (8, 9.0)])
def test_impossible_decoding(wrong):
    with pytest.raises(EvaluationError, match="cannot settle"):
        Decoding(*wrong)
