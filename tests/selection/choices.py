"""Every choice that a layer's terms allow, one by one."""

import itertools
from collections.abc import Iterator

import numpy as np

from easyep.selection.terms import Terms


def terms(experts: int, keep: int, n_group: int = 1, protected=(), forbidden=()) -> Terms:
    flags = np.zeros((2, experts), dtype=bool)
    flags[0, list(protected)] = flags[1, list(forbidden)] = True
    return Terms(0, keep, n_group, flags[0], flags[1])


def allowed(of: Terms) -> Iterator[tuple[int, ...]]:
    count = len(of.protected)
    size = count // of.n_group
    for kept in itertools.combinations(range(count), of.keep):
        per_group = [sum(e // size == g for e in kept) for g in range(of.n_group)]
        if len(set(per_group)) > 1 or any(of.forbidden[e] for e in kept):
            continue
        if all(e in kept for e in np.flatnonzero(of.protected)):
            yield kept
