"""Criteria that need no data, against formulas in Python floats."""

import math

import numpy as np
import pytest

from easyep.criteria import CRITERIA, Layer


class Made:
    """Weights of a layer with 4 experts, each in two pieces."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.rows = rng.standard_normal((4, 6)).astype(np.float32)
        shapes = [(5, 6), (3, 4)]
        self.pieces = [[rng.standard_normal(s).astype(np.float32) for s in shapes] for _ in "abcd"]
        self.pieces[3] = [np.zeros((5, 6), np.float32)]

    def router(self):
        return self.rows

    def expert(self, number):
        return iter(self.pieces[number])


def test_router_norm():
    made = Made()
    expected = [math.sqrt(sum(float(v) ** 2 for v in row)) for row in made.rows]
    found = CRITERIA["router-norm"].score_weights(made, Layer(0, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_aimer():
    made = Made()
    expected = []
    for pieces in made.pieces[:3]:
        numbers = [float(v) for piece in pieces for v in piece.ravel()]
        l1 = sum(abs(v) for v in numbers)
        l2 = math.sqrt(sum(v * v for v in numbers))
        expected.append(1 - l1 / (math.sqrt(len(numbers)) * l2))
    found = CRITERIA["aimer"].score_weights(made, Layer(0, 4))
    np.testing.assert_allclose(found[:3], expected, rtol=1e-13)
    assert found[3] == 0


def test_aimer_keeps_the_uneven():
    """Equal weights carry least (AIMER 1, pruned first), a single large one most."""
    even = np.full((4, 4), 0.5, np.float32)
    single = np.zeros((4, 4), np.float32)
    single[1, 2] = 3
    made = Made()
    made.pieces[:2] = [[even], [single]]
    found = CRITERIA["aimer"].score_weights(made, Layer(0, 4))
    assert found[0] == 0
    assert found[1] == pytest.approx(1 - 1 / 4)


def test_random_depends_on_seed_and_layer_only():
    random, made = CRITERIA["random"], Made()
    first = random.score_weights(made, Layer(3, 8, seed=5))
    assert np.array_equal(first, random.score_weights(made, Layer(3, 8, seed=5)))
    assert not np.array_equal(first, random.score_weights(made, Layer(3, 8, seed=6)))
    assert not np.array_equal(first, random.score_weights(made, Layer(4, 8, seed=5)))
