"""How much an expert mattered: one small function per published method.

A criterion looks at one layer's RoutedTokens and returns one number per expert. Most belong to one
family, with g the combine weight, ||e|| the norm of the un-weighted expert output, s the shift of
the residual stream and N_i the number of tokens routed to expert i:

    S_i(b, alpha, beta, gamma) = 1 / N_i^b * sum over its tokens of g^alpha ||e||^beta s^gamma
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from easyep.artifacts import RoutedTokens
from easyep.registry import Registry

Float64 = npt.NDArray[np.float64]
PerRoute = Callable[[RoutedTokens], npt.NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """Where a criterion is: the layer's index, its number of experts E, and the run's seed."""

    index: int
    num_experts: int
    seed: int = 0


class Criterion(Protocol):
    """Anything that turns one layer's record into one score per expert; higher is kept."""

    @property
    def summary(self) -> str:
        """One sentence for `easyep list criteria`."""

    def score(self, tokens: RoutedTokens, layer: Layer) -> Float64:
        """Scores, float64 [E]; experts that no token reached get 0."""


CRITERIA: Registry[Criterion] = Registry("criterion", entry_points="easyep.criteria")


@dataclass(frozen=True)
class RoutedCriterion:
    """A criterion that adds up, or averages, one number per (token, expert) pair.

    Attributes:
        per_route: RoutedTokens -> numbers [T, k].
        reduce: ``"sum"`` over the tokens routed to an expert, or their ``"mean"``.
        summary: one sentence for `easyep list criteria`.
    """

    per_route: PerRoute
    reduce: Literal["sum", "mean"]
    summary: str

    def score(self, tokens: RoutedTokens, layer: Layer) -> Float64:
        experts = tokens.expert_ids.ravel()
        values = np.asarray(self.per_route(tokens))
        if values.shape != tokens.expert_ids.shape:
            raise ValueError(
                f"it must return one number per token and expert, {list(tokens.expert_ids.shape)}, "
                f"not {list(values.shape)}"
            )
        count = layer.num_experts
        total = np.bincount(experts, values.ravel().astype(np.float64), count).astype(np.float64)
        if self.reduce == "mean":
            total = total / np.maximum(np.bincount(experts, minlength=count), 1)
        return total


# Names that a criterion of one's own cannot take.
BUILT_IN: set[str] = set()


def criterion(name: str, reduce: Literal["sum", "mean"] = "sum") -> Callable[[PerRoute], PerRoute]:
    """Register a function of RoutedTokens that returns one number per route, [T, k].

    The function stays as it is; `easyep.score(..., criterion=name)` and the command line know it
    from then on. Its docstring's first line is what `easyep list criteria` shows.
    """

    if reduce not in ("sum", "mean"):
        raise ValueError(f"reduce must be 'sum' or 'mean', not {reduce!r}")
    if name in BUILT_IN:
        raise ValueError(f"{name!r} is a criterion of easyep; give yours another name")

    def register(function: PerRoute) -> PerRoute:
        summary = (function.__doc__ or "").strip().split("\n")[0]
        CRITERIA.register(name, RoutedCriterion(function, reduce, summary))
        return function

    return register


@criterion("easy-ep")
def easy_ep(tokens: RoutedTokens) -> Float64:
    """g ||e|| s: EASY-EP, output-aware importance x token contribution (arXiv 2504.06792)."""
    return _contribution(tokens) * tokens.residual_shift[:, None]


@criterion("gated-norm")
def gated_norm(tokens: RoutedTokens) -> Float64:
    """g ||e||: EASY-EP without its token term (arXiv 2504.06792, ablation)."""
    return _contribution(tokens)


@criterion("gating")
def gating(tokens: RoutedTokens) -> npt.NDArray[np.float32]:
    """g: the sum of combine weights (the gating score of SEER-MoE and others)."""
    return tokens.weights


@criterion("frequency")
def frequency(tokens: RoutedTokens) -> Float64:
    """1: how many tokens were routed to the expert."""
    return np.ones(tokens.expert_ids.shape)


@criterion("reap", reduce="mean")
def reap(tokens: RoutedTokens) -> Float64:
    """Mean of g ||e|| over the tokens routed to the expert (REAP, arXiv 2510.13999)."""
    return _contribution(tokens)


def _contribution(tokens: RoutedTokens) -> Float64:
    """g ||e||, float64 [T, k]."""
    return np.multiply(tokens.weights, tokens.output_norms, dtype=np.float64)


@dataclass(frozen=True)
class RandomCriterion:
    """A random order, for comparison."""

    summary: str = (
        "A random number per expert, from --seed: the baseline that says what luck keeps."
    )

    def score(self, tokens: RoutedTokens, layer: Layer) -> Float64:
        return np.random.default_rng([layer.seed, layer.index]).random(layer.num_experts)


CRITERIA.register("random", RandomCriterion())
BUILT_IN |= set(CRITERIA)
