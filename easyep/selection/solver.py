"""Mixed-integer programs, solved by HiGHS through scipy."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from easyep.errors import MissingDependencyError
from easyep.selection.terms import Terms

Float64 = npt.NDArray[np.float64]

SECONDS = 60.0


@dataclass(frozen=True)
class Row:
    """A linear constraint: `low` <= sum of coefficients x variables <= `high`."""

    columns: npt.NDArray[np.integer[Any]]
    coefficients: Float64
    low: float
    high: float


def check_solver() -> None:
    """Raises MissingDependencyError where scipy is not installed."""
    if find_spec("scipy") is None:
        raise MissingDependencyError(
            "to choose experts by pairs or by max-min is a mixed-integer program, which needs "
            "scipy: pip install 'easyep[solver]'"
        )


def minimise(
    objective: Float64,
    rows: Sequence[Row],
    low: Float64,
    high: Float64,
    integers: int,
    *,
    gap: float = 0.0,
    presolve: bool = True,
) -> Float64 | None:
    """The variables that minimise `objective`; None where time ran out before any were found.

    Args:
        objective: what each variable costs, [n].
        rows: the constraints.
        low, high: the variables' bounds, [n].
        integers: how many variables, from the first on, must be whole numbers.
        gap: how far from the optimum the answer may be, relatively.
        presolve: let HiGHS simplify the program first. Of programs of max-min it then calls a
            worse set optimal in one of some hundred, and prints to standard output (scipy 1.17).

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    check_solver()
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    starts = np.cumsum([0, *(len(row.columns) for row in rows)])
    matrix = csr_array(
        (
            np.concatenate([row.coefficients for row in rows]),
            np.concatenate([row.columns for row in rows]),
            starts,
        ),
        shape=(len(rows), len(objective)),
    )
    constraint = LinearConstraint(
        matrix, np.array([row.low for row in rows]), np.array([row.high for row in rows])
    )
    found = milp(
        objective,
        integrality=(np.arange(len(objective)) < integers).astype(np.uint8),
        bounds=Bounds(low, high),
        constraints=constraint,
        options={"mip_rel_gap": gap, "time_limit": SECONDS, "presolve": presolve},
    )
    solution: Float64 | None = found.x
    return solution


def quotas(terms: Terms, per_group: int) -> list[Row]:
    """Each group has exactly `per_group` of the first E variables."""
    return [
        Row(np.asarray(group), np.ones(len(group)), per_group, per_group) for group in terms.groups
    ]
