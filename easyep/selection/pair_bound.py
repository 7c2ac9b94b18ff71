"""How far from the best a set of dropped experts can be at most, when pairs of experts have costs.

A bound from below for p'Fp, where p in {0, 1}^E drops as many experts of each group as the terms
say:

* F has no entry below 0, so entries above a cap may be cut down to it: A <= F, and p'Ap <= p'Fp.
  Pairs that cost far more than others are not dropped together anyway.
* p_i^2 = p_i, so p'Ap = p'(A + u I)p - u 1'p for every u (Hammer and Rubin, 1970). With u minus the
  smallest eigenvalue of A, seen along changes that keep each group's sum, the right side is convex
  in p.
* Its least value over p in [0, 1]^E, with the same sums, is bounded by the gap of Frank and Wolfe
  (1956): at any x, f(x) + min_s f'(x)(s - x), and the best s is a set.

Every cap, and every x, gives a valid bound; the best of some is taken.
"""

import numpy as np

from easyep.selection.solver import Float64
from easyep.selection.terms import Terms

# Shares of the pairs that cost at most the cap.
CAPS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 1.0)
ROUNDS = 400


def lower_bound(costs: Float64, terms: Terms) -> float:
    """A number that no choice within the terms costs less than.

    Args:
        costs: F, float64 [E, E], symmetric, none below 0.
        terms: what must hold.
    """
    found = []
    for cap in np.quantile(costs, CAPS):
        capped = np.minimum(costs, cap)
        np.fill_diagonal(capped, costs.diagonal())
        found.append(_relaxed(capped, terms))
    return max(0.0, *found)


def _relaxed(costs: Float64, terms: Terms) -> float:
    """The bound for one matrix, by `ROUNDS` steps with exact line search."""
    count, groups = len(costs), terms.n_group
    size = count // groups
    mean = np.kron(np.eye(groups), np.full((size, size), 1 / size))
    along = np.eye(count) - mean
    smallest = float(np.linalg.eigvalsh(along @ costs @ along)[0])
    convex = costs - smallest * np.eye(count)
    point = _cheapest(np.zeros(count), terms)
    best = -np.inf
    for _ in range(ROUNDS):
        image = convex @ point
        slope = 2 * image  # and the same for every expert, which choices do not see
        vertex = _cheapest(slope, terms)
        gap = float(slope @ (point - vertex))
        best = max(best, float(point @ image) + smallest * float(point.sum()) - gap)
        change = vertex - point
        bend = float(change @ (convex @ change))
        if gap <= 0:
            break
        point = point + gap / max(2 * bend, gap) * change
    return best


def _cheapest(values: Float64, terms: Terms) -> Float64:
    """The choice that is cheapest where experts have costs of their own only, 0 or 1 [E]."""
    values = np.where(terms.protected, np.inf, np.where(terms.forbidden, -np.inf, values))
    parts = values.reshape(terms.n_group, -1)
    dropped = parts.shape[1] - terms.quota
    flags = np.zeros(parts.shape)
    np.put_along_axis(flags, parts.argsort()[:, :dropped], 1.0, axis=1)
    return flags.reshape(-1)
