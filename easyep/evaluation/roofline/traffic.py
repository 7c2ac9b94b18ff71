"""How many experts a batch of tokens touches: what must be read from memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from easyep.artifacts import Observations
from easyep.errors import EvaluationError


@dataclass(frozen=True)
class Traffic:
    """Shares of tokens that are routed to each expert, in every MoE layer.

    Attributes:
        shares: float64 [L, E]: of a layer's tokens, the part that expert j is among the top-k of;
            a row adds up to k.
        recorded: whether they were observed; otherwise they are all k / E.
    """

    shares: np.ndarray
    recorded: bool = False

    def distinct(self, tokens: int) -> float:
        """Experts that `tokens` tokens touch, expected, in all layers together.

        ``U(T) = sum_j (1 - (1 - p_j)^T)``, for tokens that are routed independently of each
        other; with p_j = k / E it is ``E (1 - (1 - k / E)^T)``, the largest of all p.
        """
        return float((1 - (1 - self.shares) ** tokens).sum())

    def pruned(self, keep: int) -> "Traffic":
        """The traffic when `keep` experts are left in every layer.

        Of recorded traffic the most used ones are kept, and what the others had is spread over
        them in proportion to their own; an expert has at most all tokens.
        """
        experts = self.shares.shape[1]
        if not 1 <= keep <= experts:
            raise EvaluationError(f"{keep} of {experts} experts cannot be kept")
        top_k = self.shares.sum(axis=1, keepdims=True)
        kept = np.sort(self.shares, axis=1)[:, experts - keep :]
        # Where a layer used fewer experts than are kept, the others get next to nothing.
        kept = np.maximum(kept, 1e-12)
        full = np.zeros_like(kept, dtype=bool)
        for _ in range(keep):
            free = np.where(full, 0, kept)
            scale = (top_k - full.sum(axis=1, keepdims=True)) / np.maximum(
                free.sum(axis=1, keepdims=True), 1e-300
            )
            scaled = np.where(full, 1.0, kept * scale)
            over = (scaled > 1) & ~full
            if not over.any():
                break
            full |= over
        return Traffic(np.minimum(scaled, 1.0), self.recorded)


def uniform(layers: int, experts: int, top_k: int) -> Traffic:
    """Every expert equally often: the most experts that a batch can touch."""
    return Traffic(np.full((layers, experts), top_k / experts))


def recorded(observations: Sequence[Observations]) -> Traffic:
    """The traffic that was observed, several observations' tokens put together.

    Raises:
        EvaluationError: they are of different models, or hold no token.
        ArtifactError: a record was not kept, only sums.
    """
    if any(not each.model.same_model(observations[0].model) for each in observations):
        raise EvaluationError("the observations are of different models")
    counts: dict[int, np.ndarray] = {}
    tokens: dict[int, int] = {}
    for each in observations:
        experts = each.router.num_experts
        for layer, record in each.layers.items():
            if layer >= each.router.num_layers:
                continue  # MTP layers take no part in ordinary decoding
            ids = record.expert_ids
            found = np.bincount(ids.ravel(), minlength=experts).astype(np.float64)
            counts[layer] = counts.get(layer, 0) + found
            tokens[layer] = tokens.get(layer, 0) + len(ids)
    if not counts or not all(tokens.values()):
        raise EvaluationError("the observations have no routed tokens")
    return Traffic(np.stack([counts[i] / tokens[i] for i in sorted(counts)]), recorded=True)
