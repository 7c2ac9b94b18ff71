"""HOPE: experts that do the same work for the same tokens are not dropped together."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easyep.artifacts import RoutedTokens
from easyep.criteria.protocol import CRITERIA, Float64, Layer


@dataclass(frozen=True)
class Hope:
    """The second-order cost of dropping a set of experts (HOPE, arXiv 2609.18916).

    With a_i = g_i ||e_i||, F_ij is the mean of a_i a_j over the tokens that were routed to both i
    and j, and F_ii the mean of a_i^2 over the tokens that were routed to i. No token in common
    gives 0.
    """

    summary: str = (
        "Mean of a_i a_j over the tokens routed to both, a = g ||e||; the set that costs least is "
        "dropped (HOPE, arXiv 2609.18916)."
    )
    pairs: ClassVar[bool] = True

    def score(self, tokens: RoutedTokens, layer: Layer) -> Float64:
        return self.from_sums(self.sums(tokens, layer))

    def sums(self, tokens: RoutedTokens, layer: Layer) -> Float64:
        """What F is computed from, float64 [2, E, E]: totals and numbers of tokens.

        Those of two parts of a record add up to those of the whole.
        """
        count, k = layer.num_experts, tokens.expert_ids.shape[1]
        contribution = np.multiply(tokens.weights, tokens.output_norms, dtype=np.float64)
        experts = tokens.expert_ids.astype(np.int64)
        taken = (tokens.weights != 0).astype(np.float64)  # weight 0: the token took no such route
        sums = np.zeros((2, count * count))
        for i in range(k):
            for j in range(i, k):
                pair = experts[:, i] * count + experts[:, j]
                products = contribution[:, i] * contribution[:, j]
                sums[0] += np.bincount(pair, products, count * count)
                sums[1] += np.bincount(pair, taken[:, i] * taken[:, j], count * count)
        square = sums.reshape(2, count, count)
        # A pair was counted once, in the order of its routes; a diagonal entry is whole already.
        both = square + square.transpose(0, 2, 1)
        diagonal = np.arange(count)
        both[:, diagonal, diagonal] = square[:, diagonal, diagonal]
        return both

    def from_sums(self, sums: Float64) -> Float64:
        """F, float64 [E, E], that belongs to `sums` of all tokens."""
        costs: Float64 = np.divide(sums[0], np.maximum(sums[1], 1))
        return costs


CRITERIA.register("hope", Hope())
