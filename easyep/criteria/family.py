"""The family that most published criteria belong to.

With g the combine weight, ||e|| the norm of the un-weighted expert output, s the shift of the
residual stream and N_i the number of tokens routed to expert i:

    S_i(b, alpha, beta, gamma) = 1 / N_i^b * sum over its tokens of g^alpha ||e||^beta s^gamma

Each member is one function of a route; b = 1 is ``reduce="mean"``. A unified form without s is in
arXiv 2606.15716, which also names man, msan and squared.
"""

import numpy as np

from easyep.artifacts import RoutedTokens
from easyep.criteria.protocol import Float32, Float64, criterion


@criterion("easy-ep")
def easy_ep(tokens: RoutedTokens) -> Float64:
    """g ||e|| s: EASY-EP, output-aware importance x token contribution (arXiv 2504.06792)."""
    return _contribution(tokens) * tokens.residual_shift[:, None]


@criterion("gated-norm")
def gated_norm(tokens: RoutedTokens) -> Float64:
    """g ||e||: EASY-EP without its token term (arXiv 2504.06792, ablation)."""
    return _contribution(tokens)


@criterion("gated-shift")
def gated_shift(tokens: RoutedTokens) -> Float64:
    """g s: EASY-EP without the norm (arXiv 2504.06792, ablation)."""
    return np.multiply(tokens.weights, tokens.residual_shift[:, None], dtype=np.float64)


@criterion("gating")
def gating(tokens: RoutedTokens) -> Float32:
    """g: the sum of combine weights (the gating score of SEER-MoE and others)."""
    return tokens.weights


@criterion("frequency")
def frequency(tokens: RoutedTokens) -> Float64:
    """1: how many tokens were routed to the expert."""
    return np.ones(tokens.expert_ids.shape)


@criterion("ean")
def ean(tokens: RoutedTokens) -> Float32:
    """||e||: expert activation norm, the sum of output norms."""
    return tokens.output_norms


@criterion("squared")
def squared(tokens: RoutedTokens) -> Float64:
    """(g ||e||)^2: the energy that the expert adds (arXiv 2606.15716)."""
    return _contribution(tokens) ** 2


@criterion("reap", reduce="mean")
def reap(tokens: RoutedTokens) -> Float64:
    """Mean of g ||e|| over the tokens routed to the expert (REAP, arXiv 2510.13999)."""
    return _contribution(tokens)


@criterion("man", reduce="mean")
def man(tokens: RoutedTokens) -> Float32:
    """Mean of ||e|| over the tokens routed to the expert (MAN, arXiv 2606.15716)."""
    return tokens.output_norms


@criterion("msan", reduce="mean")
def msan(tokens: RoutedTokens) -> Float64:
    """Mean of ||e||^2 over the tokens routed to the expert (MSAN, arXiv 2606.15716)."""
    return np.square(tokens.output_norms, dtype=np.float64)


def _contribution(tokens: RoutedTokens) -> Float64:
    """g ||e||, float64 [T, k]."""
    return np.multiply(tokens.weights, tokens.output_norms, dtype=np.float64)
