"""Criteria that look at the checkpoint only: no data, no run of the model."""

from dataclasses import dataclass

import numpy as np

from easyep.criteria.protocol import CRITERIA, Float64, Layer, LayerWeights


@dataclass(frozen=True)
class RouterNorm:
    """How long the router's vector of each expert is."""

    summary: str = "L2 norm of the expert's row in the router's weight; no data."

    def score_weights(self, weights: LayerWeights, layer: Layer) -> Float64:
        squares: Float64 = np.square(weights.router(), dtype=np.float64).sum(axis=1)
        return np.sqrt(squares)


@dataclass(frozen=True)
class Aimer:
    """How unevenly an expert's weights are spread (AIMER, arXiv 2603.18492).

    AIMER is the mean absolute weight over the root mean square, L1 / (sqrt(N) L2), taken over all
    N weights of the expert's matrices together; experts with a large one are pruned. It lies in
    (0, 1], and the score is 1 minus it, so that the highest are kept here too. An expert whose
    weights are all 0 scores 0.
    """

    summary: str = (
        "1 - L1 / (sqrt(N) L2) of the expert's weights (AIMER, arXiv 2603.18492); no data."
    )

    def score_weights(self, weights: LayerWeights, layer: Layer) -> Float64:
        scores = np.zeros(layer.num_experts)
        for expert in range(layer.num_experts):
            absolute, squares, count = 0.0, 0.0, 0
            for piece in weights.expert(expert):
                absolute += float(np.abs(piece).sum(dtype=np.float64))
                squares += float(np.square(piece, dtype=np.float64).sum())
                count += piece.size
            if squares:
                scores[expert] = max(0.0, 1 - absolute / np.sqrt(count * squares))
        return scores


@dataclass(frozen=True)
class RandomCriterion:
    """A random order, for comparison."""

    summary: str = (
        "A random number per expert, from --seed: the baseline that says what luck keeps."
    )

    def score_weights(self, weights: LayerWeights, layer: Layer) -> Float64:
        return np.random.default_rng([layer.seed, layer.index]).random(layer.num_experts)


CRITERIA.register("router-norm", RouterNorm())
CRITERIA.register("aimer", Aimer())
CRITERIA.register("random", RandomCriterion())
