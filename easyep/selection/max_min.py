"""The set whose worst domain keeps most."""

from collections.abc import Sequence

import numpy as np

from easyep.selection.ranking import best
from easyep.selection.solver import Float64, Row, minimise, quotas
from easyep.selection.terms import Terms

# Up to so many experts the optimum is proven; beyond, the answer is within the gap of it.
PROVEN = 64
GAP = 1e-6


def max_min(domains: Sequence[Float64], weights: Sequence[float], terms: Terms) -> tuple[int, ...]:
    """The choice that maximises the least retained share of several domains.

    A domain's retained share is the sum of its scores of kept experts over the sum of all, here
    divided by the domain's weight over the largest weight. Of the choices with the same least
    share, the one with the largest sum of shares is taken. A mixed-integer program (HiGHS),
    solved for up to `PROVEN` experts to the solver's own tolerance, a millionth of the share.

    Args:
        domains: each domain's scores of the layer, float64 [E], none below 0.
        weights: of the domains, positive.
        terms: what must hold.

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    count = len(terms.protected)
    top = max(weights)
    shares = [
        scores / scores.sum() * (top / weight)
        for scores, weight in zip(domains, weights, strict=True)
        if scores.any()
    ]
    low = np.append(terms.protected.astype(np.float64), 0.0)
    high = np.append(1.0 - terms.forbidden, np.inf)
    columns = np.arange(count + 1)
    # The last variable is the least share t: share_d x - t >= 0 for every domain d.
    rows = quotas(terms, terms.quota)
    rows += [Row(columns, np.append(share, -1.0), 0.0, np.inf) for share in shares]
    gap = 0.0 if count <= PROVEN else GAP
    worst = minimise(
        np.append(np.zeros(count), -1.0), rows, low, high, count, gap=gap, presolve=False
    )
    total = np.sum(shares, axis=0) if shares else np.zeros(count)
    if worst is None:
        return best(total, terms)
    # Among equals the most for all: t is held, up to rounding.
    low[-1] = worst[-1] * (1 - max(gap, 1e-9))
    fullest = minimise(np.append(-total, 0.0), rows, low, high, count, gap=gap, presolve=False)
    chosen = worst if fullest is None else fullest
    return tuple(np.flatnonzero(chosen[:count] > 0.5).tolist())
