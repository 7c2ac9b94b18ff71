"""Means over tokens against the formula, written out."""

import numpy as np
import pytest

from easyep.comparing.estimates import clustered_mean


def test_the_standard_error_is_that_of_clusters():
    values = [np.array([1.0, 2.0, 4.0]), np.array([0.0]), np.array([3.0, 3.5])]
    every = [1.0, 2.0, 4.0, 0.0, 3.0, 3.5]
    mean = sum(every) / 6
    clusters = [7.0 - 3 * mean, 0.0 - mean, 6.5 - 2 * mean]
    found = clustered_mean(values)
    assert found.value == pytest.approx(mean)
    assert found.stderr == pytest.approx((3 / 2 * sum(c**2 for c in clusters)) ** 0.5 / 6)
    assert clustered_mean(values[:1]).stderr is None


def test_demonstrations_of_one_token_give_the_usual_standard_error():
    values = np.random.default_rng(0).normal(size=40)
    found = clustered_mean([np.array([x]) for x in values])
    assert found.stderr == pytest.approx(values.std(ddof=1) / 40**0.5)


def test_alike_tokens_are_no_further_evidence():
    rng = np.random.default_rng(1)
    alone = [np.array([x]) for x in rng.normal(size=20)]
    copied = [np.repeat(each, 50) for each in alone]
    assert clustered_mean(copied).stderr == pytest.approx(clustered_mean(alone).stderr)
