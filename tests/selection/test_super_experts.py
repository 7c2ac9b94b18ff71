"""Experts with outputs beyond all others."""

from dataclasses import replace

import numpy as np
import pytest

from easyep import selection
from easyep.errors import SelectionError
from tests import records


def peaks() -> dict[int, np.ndarray]:
    """2 x 256 experts: one has an output 100 times as large as others, one 8 times."""
    values = np.random.default_rng(0).uniform(1, 2, (2, 256))
    values[1, 17], values[0, 3] = 200.0, 16.0
    return {4: values[0], 5: values[1]}


def test_they_stand_out():
    found = selection.super_experts(peaks())
    assert {layer: np.flatnonzero(each).tolist() for layer, each in found.items()} == {
        4: [],
        5: [17],
    }


def test_the_percentile_binds_where_many_are_large():
    values = {0: np.arange(1.0, 1001.0)}
    found = np.flatnonzero(selection.super_experts(values)[0])
    assert found.tolist() == [995, 996, 997, 998, 999]


def test_a_tenth_of_the_largest_is_not_above_it():
    values = {0: np.ones(1000)}
    values[0][3], values[0][17] = 10.0, 100.0
    assert np.flatnonzero(selection.super_experts(values)[0]).tolist() == [17]
    values[0][3] = 10.001
    assert np.flatnonzero(selection.super_experts(values)[0]).tolist() == [3, 17]


def test_they_can_be_protected():
    flat = {layer: (np.arange(256.0) + 1).tolist() for layer in (4, 5)}
    scores = records.scores(flat)
    with pytest.raises(SelectionError, match="score again from observations"):
        selection.select(scores, 100, protect="super-experts")
    scores = replace(scores, peaks=peaks())
    chosen = selection.select(scores, 100, protect=["super-experts", "4:0"])
    assert 17 in chosen.layers[5]
    assert 17 not in chosen.layers[4]
    assert 0 in chosen.layers[4]
