"""Means over tokens, and how sure they are when tokens come in demonstrations.

Tokens of one demonstration are alike, so that their number says too much about how sure a mean is.
With x_t the values of N tokens in D demonstrations, m = sum(x_t) / N:

    SE = sqrt(D / (D - 1) * sum_d (sum_{t in d} (x_t - m))^2) / N

the cluster-robust standard error (Miller, "Adding Error Bars to Evals", arXiv 2411.00640) with the
usual correction for few clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mean:
    """A mean, and its standard error; None where there is only one demonstration."""

    value: float
    stderr: float | None


def clustered_mean(values: Sequence[NDArray[np.float64]]) -> Mean:
    """The mean over all tokens.

    Args:
        values: for each demonstration one number per token.
    """
    total = sum(len(each) for each in values)
    mean = sum(float(each.sum()) for each in values) / total
    if len(values) < 2:
        return Mean(mean, None)
    squares = sum((float(each.sum()) - mean * len(each)) ** 2 for each in values)
    return Mean(mean, sqrt(squares * len(values) / (len(values) - 1)) / total)
