"""The bound on what any choice costs, against the relaxed program solved by another method."""

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from easyep.selection import pair_bound
from easyep.selection.pair_bound import CAPS, _relaxed, lower_bound
from tests.selection.choices import terms
from tests.selection.test_pairs import CASES, random_costs


def least_relaxed(costs, of) -> float:
    """The least x'(A + u I)x - u sum(x) over shares x in [0, 1] with the groups' sums.

    By sequential quadratic programming; u makes the matrix convex where the sums are kept.
    """
    count, size = len(costs), len(of.groups[0])
    same = np.array([[i // size == j // size for j in range(count)] for i in range(count)])
    free = np.eye(count) - same / size
    shift = min(0.0, float(np.linalg.eigvalsh(free @ costs @ free).min()))
    dropped = size - of.quota

    def value(x):
        return x @ costs @ x - shift * (x @ x) + shift * x.sum()

    def slope(x):
        return 2 * costs @ x - 2 * shift * x + shift

    found = minimize(
        value,
        np.full(count, dropped / size),
        jac=slope,
        bounds=list(zip(of.forbidden.astype(float), 1.0 - of.protected, strict=True)),
        constraints=[LinearConstraint(same[::size].astype(float), dropped, dropped)],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return float(found.fun)


@pytest.mark.parametrize("of", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("seed", [0, 1])
def test_the_relaxed_program_is_solved(of, seed):
    costs = random_costs(len(of.protected), seed)
    least = least_relaxed(costs, of)
    bound = _relaxed(costs, of)
    assert bound <= least + 1e-7 * abs(least)
    assert bound == pytest.approx(least, rel=2e-3)


@pytest.mark.parametrize("of", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("alone", [1, 20])
def test_of_all_caps_the_best_bound_is_taken(of, alone):
    """Costs above a cap are cut down to it, but for those of single experts."""
    costs = random_costs(len(of.protected), 3)
    costs += np.diag((alone - 1) * costs.diagonal())
    single = costs.diagonal().copy()
    bounds = []
    for cap in np.quantile(costs, CAPS):
        capped = np.where(np.eye(len(costs)), np.diag(single), np.minimum(costs, cap))
        bounds.append(least_relaxed(capped, of))
    assert lower_bound(costs, of) == pytest.approx(max(0.0, *bounds), rel=2e-3)


@pytest.mark.parametrize("scale", [0.1, 1, 10])
def test_on_a_line_one_step_leads_to_the_least_value(monkeypatch, scale):
    """One of two experts is dropped: the relaxed program is a parabola between the two."""
    monkeypatch.setattr(pair_bound, "ROUNDS", 2)
    costs, of = scale * np.array([[3.0, 0.5], [0.5, 2.0]]), terms(2, 1)
    assert _relaxed(costs, of) == pytest.approx(least_relaxed(costs, of), rel=1e-9)


def test_where_nothing_bends_a_step_leads_to_the_end(monkeypatch):
    """Costs that are sums of two experts' own: the parabola is a straight line."""
    monkeypatch.setattr(pair_bound, "ROUNDS", 2)
    assert _relaxed(np.array([[4.0, 3.0], [3.0, 2.0]]), terms(2, 1)) == 2
