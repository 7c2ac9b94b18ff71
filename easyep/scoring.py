"""RoutedTokens x criterion -> Scores; several domains become one."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from easyep import choices
from easyep.artifacts import Observations, RoutedTokens, Scores
from easyep.criteria import CRITERIA, Layer
from easyep.errors import ArtifactError
from easyep.progress import SILENT, Progress

Tokens = Literal["all", "response"]
TOKENS: tuple[Tokens, ...] = ("all", "response")

Observed = Observations | str | os.PathLike[str]


def score(
    observations: Observed | Sequence[Observed],
    criterion: str = "easy-ep",
    *,
    weights: Sequence[float] | None = None,
    tokens: Tokens = "all",
    seed: int = 0,
    progress: Progress = SILENT,
) -> Scores:
    """Score every routed expert by what was recorded.

    Args:
        observations: one calibration run, or several (of one model) to be mixed as `mix` does;
            each as it is, or the directory that it was saved in.
        criterion: a name of `easyep list criteria`.
        weights: the weight of each; all the same by default.
        tokens: ``"all"``, or ``"response"`` for the tokens of responses only.
        seed: for criteria that draw random numbers.

    Raises:
        UnknownNameError: there is no such criterion.
        ArtifactError: the observations cannot be read or mixed, no token is left, or the
            criterion gave something else than one number per expert.
    """
    tokens = choices.one_of(TOKENS)("tokens", tokens)  # type: ignore[assignment]
    single = isinstance(observations, (Observations, str, os.PathLike))
    each = [observations] if single else list(observations)  # type: ignore[arg-type]
    scores = []
    for one in each:
        seen = one if isinstance(one, Observations) else Observations.load(one)  # type: ignore[arg-type]
        scores.append(_score(seen, criterion, tokens, seed, progress))
    return mix(scores, weights if weights is not None else [1.0] * len(scores))


def mix(scores: Sequence[Scores], weights: Sequence[float]) -> Scores:
    """One set of scores for several domains.

    Per layer, each domain's scores are divided by their sum, then averaged with the weights
    (arXiv 2504.06792, mixed-domain pruning; equal weights there). A single domain's scores are
    left as they are.

    Raises:
        ArtifactError: the scores are of different models, criteria or layers, or a score or
            weight is negative.
    """
    if len(scores) != len(weights) or not scores:
        raise ArtifactError(f"{len(scores)} sets of scores cannot take {len(weights)} weights")
    if any(not weight > 0 for weight in weights):
        raise ArtifactError(f"domain weights must be positive, not {list(weights)}")
    first = scores[0]
    if len(scores) == 1:
        return first
    for other in scores[1:]:
        if not first.model.same_model(other.model):
            raise ArtifactError(
                f"cannot mix scores of different models: {first.model.name}, {other.model.name}"
            )
        if first.criterion != other.criterion or first.layers.keys() != other.layers.keys():
            raise ArtifactError("cannot mix scores of different criteria or layers")
    layers = {}
    for index in first.layers:
        shares = []
        for domain, weight in zip(scores, weights, strict=True):
            values = domain.layers[index]
            if (values < 0).any():
                raise ArtifactError(
                    f"layer {index}: scores below 0 cannot be mixed as shares of their sum"
                )
            shares.append(weight * values / (values.sum() or 1.0))
        layers[index] = np.sum(shares, axis=0) / sum(weights)
    origins = [
        {**origin, "weight": weight}
        for domain, weight in zip(scores, weights, strict=True)
        for origin in domain.observations
    ]
    return Scores(first.criterion, first.model, first.router, tuple(origins), layers)


def _score(
    observations: Observations, criterion: str, tokens: Tokens, seed: int, progress: Progress
) -> Scores:
    method = CRITERIA[criterion]
    num_experts = observations.router.num_experts
    layers = {}
    counted = 0
    with progress.task(f"Scoring by {criterion}", len(observations.layers), "layers") as task:
        for index in sorted(observations.layers):
            chosen = _chosen(observations.layers[index], tokens, observations.domain)
            counted = max(counted, len(chosen))
            try:
                layers[index] = np.asarray(
                    method.score(chosen, Layer(index, num_experts, seed)), dtype=np.float64
                )
            except ValueError as error:
                raise ArtifactError(f"the criterion {criterion!r} failed: {error}") from error
            task.advance()
    return Scores(
        criterion=criterion,
        model=observations.model,
        router=observations.router,
        observations=(_origin(observations, tokens, counted),),
        layers=layers,
    )


def _chosen(record: RoutedTokens, tokens: Tokens, domain: str) -> RoutedTokens:
    chosen = record.where(record.is_response) if tokens == "response" else record
    if not len(chosen):
        raise ArtifactError(
            f"the observations of {domain!r} hold no {tokens} token; --tokens all uses prompts too"
        )
    return chosen


def _origin(observations: Observations, tokens: Tokens, counted: int) -> Mapping[str, Any]:
    return {
        "domain": observations.domain,
        "weight": 1.0,
        "tokens": tokens,
        "num_demos": len(observations.demos),
        "num_tokens": counted,
        "demos_sha256": [demo.sha256 for demo in observations.demos],
    }
