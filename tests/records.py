"""Made-up records of MoE layers, for tests that need no model."""

import numpy as np

from easyep.architectures.router import Router
from easyep.artifacts import ModelIdentity, Observations, ObservedDemo, RoutedTokens, Scores

MODEL = ModelIdentity("made-up", "deepseek_v3", "c" * 64, "t" * 64, "w" * 64)


def routed_tokens(tokens=40, experts=8, k=2, seed=0) -> RoutedTokens:
    rng = np.random.default_rng(seed)
    return RoutedTokens(
        expert_ids=np.argsort(rng.random((tokens, experts)), axis=1)[:, :k].astype(np.int32),
        weights=rng.random((tokens, k), dtype=np.float32),
        output_norms=rng.random((tokens, k), dtype=np.float32) * 3,
        residual_shift=rng.random(tokens, dtype=np.float32) / 10,
        demo=np.sort(rng.integers(0, 3, tokens)).astype(np.int32),
        is_response=rng.random(tokens) < 0.5,
    )


def observations(experts=8, layers=(1, 2), seed=0, domain="made-up", **router) -> Observations:
    records = {i: routed_tokens(experts=experts, seed=100 * seed + i) for i in layers}
    return Observations(
        model=MODEL,
        router=Router(num_experts=experts, top_k=2, num_layers=3, **router),
        domain=domain,
        demos=(ObservedDemo("d" * 64, 40, 20),),
        runner="memory",
        dtype="float32",
        layers=records,
    )


def scores(layers: dict[int, list[float]], criterion="easy-ep", top_k=1, **router) -> Scores:
    arrays = {i: np.array(values, dtype=np.float64) for i, values in layers.items()}
    count = len(next(iter(arrays.values())))
    return Scores(
        criterion=criterion,
        model=MODEL,
        router=Router(num_experts=count, top_k=top_k, num_layers=max(layers) + 1, **router),
        observations=({"domain": "made-up", "weight": 1.0},),
        layers=arrays,
    )
