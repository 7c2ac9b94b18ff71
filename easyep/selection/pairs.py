"""The set that costs least to drop, when pairs of experts have costs.

Minimise p'Fp over p in {0, 1}^E with as many 1 as experts are dropped (in each group, where groups
count): a quadratic program. A search by swaps finds a set that no single swap betters. Up to
`PROVEN` experts HiGHS then solves the program as a mixed-integer one, exactly: y_ij stands for
p_i p_j, bounded by the products of the quota with each p_i (the reformulation-linearisation
technique of Sherali and Adams), which makes the linear relaxation tight. Beyond that size HiGHS
finds nothing within a minute, and the swaps' answer is taken; `unavoidable` says how
far from the least it can be.
"""

from collections.abc import Sequence

import numpy as np

from easyep.selection.pair_bound import lower_bound
from easyep.selection.solver import Float64, Row, minimise, quotas
from easyep.selection.terms import Flags, Terms

PROVEN = 128

# A swap must gain more than rounding does.
SMALLEST_GAIN = 1e-12


def least_costly(costs: Float64, terms: Terms) -> tuple[int, ...]:
    """The kept experts when those whose dropping costs least are dropped.

    Args:
        costs: F, float64 [E, E], symmetric, none below 0.
        terms: what must hold.

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    dropped = by_swaps(costs, terms)
    if len(costs) <= PROVEN:
        proven = _by_program(costs, terms)
        if proven is not None and _cost(costs, proven) < _cost(costs, dropped):
            dropped = proven
    return tuple(np.flatnonzero(~dropped).tolist())


def by_swaps(costs: Float64, terms: Terms) -> Flags:
    """A set of dropped experts, bool [E], that no swap of one for another betters.

    It begins with what is cheapest to drop next, one after the other.
    """
    dropped = terms.forbidden.copy()
    diagonal = costs.diagonal()
    group_of = np.zeros(len(costs), dtype=np.int64)
    for number, group in enumerate(terms.groups):
        group_of[group] = number
    room = np.array([len(group) - terms.quota for group in terms.groups])
    while (left := room - np.bincount(group_of[dropped], minlength=len(room))).any():
        increase = diagonal + 2 * costs[:, dropped].sum(axis=1)
        barred = dropped | terms.protected | (left[group_of] == 0)
        dropped[np.where(barred, np.inf, increase).argmin()] = True
    smallest = SMALLEST_GAIN * max(float(costs.max()), 1e-300)
    while True:
        # What dropping i in place of j changes: g_i - g_j - 2 F_ij, g without the expert itself.
        slope = diagonal + 2 * (costs[:, dropped].sum(axis=1) - np.where(dropped, diagonal, 0))
        back = np.flatnonzero(dropped & ~terms.forbidden)
        out = np.flatnonzero(~dropped & ~terms.protected)
        if not len(back) or not len(out):
            return dropped
        change = slope[out][:, None] - slope[back] - 2 * costs[np.ix_(out, back)]
        change[group_of[out][:, None] != group_of[back]] = np.inf
        i, j = np.unravel_index(change.argmin(), change.shape)
        if change[i, j] > -smallest:
            return dropped
        dropped[out[i]], dropped[back[j]] = True, False


def _by_program(costs: Float64, terms: Terms) -> Flags | None:
    count = len(costs)
    first, second = np.triu_indices(count, 1)
    pairs = count + np.arange(len(first))  # the variables y_ij, i < j, behind the p_i
    at = np.zeros((count, count), dtype=np.int64)
    at[first, second] = at[second, first] = pairs
    rows = quotas(terms, len(terms.groups[0]) - terms.quota)
    for number in range(count):
        for group in terms.groups:
            others = np.array([e for e in group if e != number])
            quota = len(group) - terms.quota - (number in group)
            columns = np.append(at[number, others], number)
            rows.append(Row(columns, np.append(np.ones(len(others)), -quota), 0.0, 0.0))
    # Without the rows of y_ij >= p_i + p_j - 1 HiGHS takes some ten times longer.
    one, each = np.ones(1), np.array([1.0, -1.0])
    for y, i, j in zip(pairs, first, second, strict=True):
        rows.append(Row(np.array([y, i, j]), np.append(one, [-1.0, -1.0]), -1.0, np.inf))
        rows.append(Row(np.array([y, i]), each, -np.inf, 0.0))
        rows.append(Row(np.array([y, j]), each, -np.inf, 0.0))
    objective = np.append(costs.diagonal(), 2 * costs[first, second])
    low, high = np.zeros(len(objective)), np.ones(len(objective))
    low[:count], high[:count] = terms.forbidden, ~terms.protected
    scale = float(objective.max()) or 1.0
    found = minimise(objective / scale, rows, low, high, count)
    return None if found is None else found[:count] > 0.5


def unavoidable(costs: Float64, kept: Sequence[int], terms: Terms) -> float:
    """The share of a choice's cost that every other choice costs too, at least.

    Args:
        costs: F, float64 [E, E].
        kept: the experts that the choice keeps.
        terms: what it had to respect.
    """
    dropped = np.ones(len(costs), dtype=np.bool_)
    dropped[list(kept)] = False
    cost = _cost(costs, dropped)
    return min(1.0, lower_bound(costs, terms) / cost) if cost else 1.0


def _cost(costs: Float64, dropped: Flags) -> float:
    return float(costs[np.ix_(dropped, dropped)].sum())
