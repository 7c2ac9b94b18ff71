"""One set of scores for several domains."""

from collections.abc import Mapping, Sequence
from math import frexp, inf, ldexp

import numpy as np
import numpy.typing as npt

from easyep import choices
from easyep.artifacts import Scores
from easyep.artifacts.scores import MIXES, DomainScores
from easyep.errors import ArtifactError

Float64 = npt.NDArray[np.float64]


def mix(scores: Sequence[Scores], weights: Sequence[float], how: str = "mean") -> Scores:
    """Mix the scores of several domains; a single domain's are left as they are.

    ``"mean"``: per layer, each domain's scores are divided by their sum, then averaged with the
    weights (arXiv 2504.06792, mixed-domain pruning; equal weights there). What pairs of experts
    cost is divided by the cost of all together, likewise.

    ``"max-min"``: the same numbers, and beside them each domain's own, from which `select` keeps
    the set that maximises, per layer, the least of the domains' retained shares, each divided by
    the domain's weight: a domain of weight 0.5 may keep half as much.

    Raises:
        ArtifactError: the scores are of different models, criteria or layers, or a score is
            negative or a weight no positive number; or `how` does not work for the criterion.
    """
    how = choices.one_of(MIXES)("mix", how)
    weights = choices.several(choices.number)("weights", weights)
    if len(scores) != len(weights) or not scores:
        raise ArtifactError(f"{len(scores)} sets of scores cannot take {len(weights)} weights")
    if any(not 0 < weight < inf for weight in weights):
        raise ArtifactError(f"domain weights must be positive numbers, not {list(weights)}")
    first = scores[0]
    if len(scores) == 1:
        return first
    _check_alike(scores)
    if how == "max-min" and first.pairs:
        raise pairs_in_max_min(first.criterion)
    return Scores(
        criterion=first.criterion,
        model=first.model,
        router=first.router,
        observations=tuple(
            {**origin, "weight": weight}
            for domain, weight in zip(scores, weights, strict=True)
            for origin in domain.observations
        ),
        layers=_mean([domain.layers for domain in scores], weights),
        pairs=_mean([domain.pairs for domain in scores], weights),
        peaks={
            layer: np.max([domain.peaks[layer] for domain in scores], axis=0)
            for layer in first.peaks
            if all(layer in domain.peaks for domain in scores)
        },
        mix=how,
        domains=tuple(
            DomainScores(weight, domain.layers)
            for domain, weight in zip(scores, weights, strict=True)
            if how == "max-min"
        ),
    )


def pairs_in_max_min(criterion: str) -> ArtifactError:
    """The error where domains are to be mixed by max-min for a criterion of pairs of experts."""
    return ArtifactError(
        f"the criterion {criterion!r} scores pairs of experts, which cannot be mixed by max-min; "
        "choose the mix 'mean'"
    )


def _check_alike(scores: Sequence[Scores]) -> None:
    first = scores[0]
    for other in scores[1:]:
        if not first.model.same_model(other.model):
            raise ArtifactError(
                f"cannot mix scores of different models: {first.model.name}, {other.model.name}"
            )
        if first.criterion != other.criterion:
            raise ArtifactError(
                f"cannot mix scores of different criteria: {first.criterion}, {other.criterion}"
            )
        if lonely := sorted(first.layers.keys() ^ other.layers.keys()):
            raise ArtifactError(
                f"cannot mix scores of different layers: only some have layer {lonely[0]} (see "
                "--mtp)"
            )
    if any(one.domains for one in scores):
        raise ArtifactError("scores that were mixed by max-min cannot be mixed again")


def _mean(domains: Sequence[Mapping[int, Float64]], weights: Sequence[float]) -> dict[int, Float64]:
    """Per layer, the weighted mean of each domain's values as shares of their sum."""
    # By a power of two, which changes no digit: the sum of large weights would be infinite.
    _, exponent = frexp(max(weights))
    parts = [ldexp(weight, -exponent) for weight in weights]
    layers = {}
    for index in domains[0]:
        shares = []
        for domain, part in zip(domains, parts, strict=True):
            values = domain[index]
            if (values < 0).any():
                raise ArtifactError(
                    f"layer {index}: scores below 0 cannot be mixed as shares of their sum"
                )
            shares.append(part * values / (values.sum() or 1.0))
        layers[index] = np.sum(shares, axis=0) / sum(parts)
    return layers
