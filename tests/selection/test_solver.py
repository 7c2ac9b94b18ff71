"""Mixed-integer programs, small enough to solve by hand."""

import numpy as np
import pytest

from easyep.errors import MissingDependencyError
from easyep.selection import solver
from easyep.selection.solver import Row, check_solver, minimise, quotas
from tests.selection.choices import terms


def test_whole_numbers_rows_and_bounds():
    """x + 2y >= 3 at least cost 2x + 3y: y = 1.5, or among whole numbers x = y = 1."""
    row = Row(np.array([0, 1]), np.array([1.0, 2.0]), 3.0, np.inf)
    cost, low, high = np.array([2.0, 3.0]), np.zeros(2), np.full(2, 9.0)
    assert minimise(cost, [row], low, high, 0) == pytest.approx([0, 1.5])
    assert minimise(cost, [row], low, high, 2) == pytest.approx([1, 1])
    assert minimise(cost, [row], low, high, 1) == pytest.approx([0, 1.5])  # only x is whole
    assert minimise(cost, [row], np.array([0, 2.0]), high, 2) == pytest.approx([0, 2])
    assert minimise(cost, [row], low, np.array([9, 0.5]), 0) == pytest.approx([2, 0.5])
    above = Row(np.array([1]), np.ones(1), -np.inf, 0.0)
    assert minimise(cost, [row, above], low, high, 2) == pytest.approx([3, 0])


def test_a_variable_may_stand_in_no_row():
    row = Row(np.array([0]), np.ones(1), 1.0, np.inf)
    found = minimise(np.array([1.0, -1.0]), [row], np.zeros(2), np.full(2, 5.0), 2)
    assert found == pytest.approx([1, 5])


def test_what_has_no_solution_is_none():
    row = Row(np.array([0]), np.ones(1), 2.0, 2.0)
    assert minimise(np.ones(1), [row], np.zeros(1), np.ones(1), 1) is None


def test_time_is_limited(monkeypatch):
    asked = {}

    def milp(*arguments, options, **others):
        asked.update(options)
        return type("Found", (), {"x": None})

    monkeypatch.setattr("scipy.optimize.milp", milp)
    row = Row(np.array([0]), np.ones(1), 0.0, 1.0)
    assert minimise(np.ones(1), [row], np.zeros(1), np.ones(1), 1, gap=0.25) is None
    assert asked == {"mip_rel_gap": 0.25, "time_limit": solver.SECONDS, "presolve": True}


def test_quotas_are_of_each_group():
    rows = quotas(terms(6, 2, n_group=2), 1)
    assert [row.columns.tolist() for row in rows] == [[0, 1, 2], [3, 4, 5]]
    assert all(row.coefficients.tolist() == [1, 1, 1] for row in rows)
    assert {(row.low, row.high) for row in rows} == {(1, 1)}


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    check_solver()
    monkeypatch.setattr(solver, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"easyep\[solver\]"):
        check_solver()
    with pytest.raises(MissingDependencyError, match=r"easyep\[solver\]"):
        minimise(np.ones(1), [], np.zeros(1), np.ones(1), 1)
