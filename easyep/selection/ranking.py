"""The best experts of one layer by their scores."""

import numpy as np
import numpy.typing as npt

from easyep.selection.terms import Terms


def best(scores: npt.NDArray[np.float64], terms: Terms) -> tuple[int, ...]:
    """The choice with the highest sum of scores; of equal scores the lower id.

    Args:
        scores: float64 [E].
        terms: what must hold.
    """
    kept: list[int] = []
    for group in terms.groups:
        ids = np.asarray(group)
        # Protected ones first, forbidden ones last, between them by score, then by id.
        order = np.lexsort((ids, -scores[ids], terms.forbidden[ids], ~terms.protected[ids]))
        kept += ids[order[: terms.quota]].tolist()
    return tuple(sorted(kept))
