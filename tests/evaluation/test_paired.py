"""Paired differences against plain formulas."""

from dataclasses import replace
from itertools import product
from math import comb

import numpy as np
import pytest

from easyep.errors import EvaluationError
from easyep.evaluation.accuracy import Accuracy, TaskAccuracy
from easyep.evaluation.paired import compare_values, differences, mcnemar, sign_flips


def test_mcnemar_is_the_two_sided_binomial_test():
    for b, c in product(range(8), range(8)):
        n = b + c
        probability = [comb(n, i) / 2**n for i in range(n + 1)]
        expected = sum(p for i, p in enumerate(probability) if abs(i - n / 2) >= abs(b - n / 2))
        assert mcnemar(b, c) == pytest.approx(min(1.0, expected), abs=1e-12)
    assert mcnemar(0, 0) == 1


def test_sign_flips_are_near_the_enumeration_of_all_signs():
    d = np.random.default_rng(3).normal(0.4, 1, 10)
    sums = [
        abs(sum(s * x for s, x in zip(signs, d, strict=True)))
        for signs in product((-1, 1), repeat=10)
    ]
    exact = np.mean([total >= abs(d.sum()) - 1e-12 for total in sums])
    assert sign_flips(d) == pytest.approx(exact, abs=0.02)
    assert sign_flips(np.zeros(5)) == 1


def test_the_standard_error_is_that_of_a_mean_of_differences():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, 50).astype(float), rng.integers(0, 2, 50).astype(float)
    found = compare_values(a, b)
    d = [x - y for x, y in zip(a, b, strict=True)]
    mean = sum(d) / 50
    assert found["stderr"] == pytest.approx((sum((x - mean) ** 2 for x in d) / (50 * 49)) ** 0.5)
    assert found["better"] == sum(x == 1 for x in d)
    assert found["worse"] == sum(x == -1 for x in d)
    assert found["test"] == "mcnemar"
    assert compare_values(a / 2, b / 2)["test"] == "permutation"


def accuracy(values, *, metric="acc", value=None, version="1"):
    samples = [
        {"doc_id": i, "doc_hash": f"h{i}", "filter": "none", metric: v}
        for i, v in enumerate(values)
    ]
    mean = float(np.mean(values)) if value is None else value
    result = TaskAccuracy("t", f"{metric},none", mean, None, len(values), version)
    return Accuracy((result,), {}, {"samples": {"t": samples}})


def test_items_are_paired_by_their_number_and_content():
    (found,) = differences(accuracy([1, 1, 0, 1]), accuracy([0, 1, 0, 0]))
    assert (found.difference, found.items, found.better, found.worse) == (0.5, 4, 2, 0)
    assert found.p == 0.5


def test_metrics_that_are_no_means_have_no_test():
    (found,) = differences(accuracy([1, 0], value=0.3), accuracy([0, 0]))
    assert found.items == 0
    assert found.p is None
    assert found.difference == 0.3


def test_groups_are_paired_over_all_their_items():
    first, second = accuracy([1, 1]), accuracy([0, 1])
    both = []
    for one in (first, second):
        group = TaskAccuracy("g", "acc,none", one.results[0].value, None, 2, "")
        part = replace(one.results[0], part_of="g")
        harness = {**one.harness, "group_subtasks": {"g": ["t"]}}
        both.append(Accuracy((part, group), {}, harness))
    assert [d.items for d in differences(*both)] == [2, 2]
    assert [r.task for r in both[0].shown] == ["g"]


def test_other_questions_are_refused():
    with pytest.raises(EvaluationError, match="not the same"):
        differences(accuracy([1, 0]), accuracy([1, 0], version="2"))
    with pytest.raises(EvaluationError, match="with 2 items"):
        differences(accuracy([1, 0]), accuracy([1]))
