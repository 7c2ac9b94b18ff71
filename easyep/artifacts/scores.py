"""How much each expert mattered."""

import os
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from easyep.architectures.router import Router
from easyep.artifacts.files import check_schema, layer_entries, read_artifact, write_json
from easyep.artifacts.model_identity import ModelIdentity
from easyep.errors import ArtifactError

SCHEMA = 1
MIXES = ("mean", "max-min")

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DomainScores:
    """One of several domains: its weight, and its own scores (layer -> float64 [E])."""

    weight: float
    layers: Mapping[int, Float64]


@dataclass(frozen=True)
class Scores:
    """One number for every routed expert.

    Attributes:
        criterion: the name of the criterion.
        model: the checkpoint that was observed.
        router: its router, so that a budget can be checked without the model.
        observations: for each mixed observation its domain, weight and number of tokens.
        layers: layer index -> float64 [E]; experts never routed to have 0.
        pairs: for criteria that look at pairs, layer index -> float64 [E, E], symmetric: what it
            costs to drop both; `layers` then holds the diagonal. Empty for the others.
        peaks: layer index -> float64 [E], the largest output norm that each expert reached; empty
            where no record was looked at.
        mix: how several domains became one: ``"mean"`` or ``"max-min"``.
        domains: for ``"max-min"``, each domain's own scores.
    """

    criterion: str
    model: ModelIdentity
    router: Router
    observations: tuple[Mapping[str, Any], ...]
    layers: Mapping[int, Float64]
    pairs: Mapping[int, Float64] = field(default_factory=dict)
    peaks: Mapping[int, Float64] = field(default_factory=dict)
    mix: str = "mean"
    domains: tuple[DomainScores, ...] = ()

    def __post_init__(self) -> None:
        count = self.router.num_experts
        for each in (self.layers, self.peaks, *(domain.layers for domain in self.domains)):
            _check_shapes(each, (count,))
        _check_shapes(self.pairs, (count, count))
        if self.mix not in MIXES:
            raise ArtifactError(f"mix is {reprlib.repr(self.mix)}, not one of {', '.join(MIXES)}")
        if any(domain.layers.keys() != self.layers.keys() for domain in self.domains):
            raise ArtifactError("the domains do not have the same layers")
        if self.pairs and self.pairs.keys() != self.layers.keys():
            raise ArtifactError("the layers of 'pairs' are not those of 'layers'")
        if self.peaks.keys() - self.layers.keys():
            raise ArtifactError("'peaks' has a layer that 'layers' has not")
        if not all(0 < domain.weight <= sys.float_info.max for domain in self.domains):
            raise ArtifactError("the weights of 'domains' must be finite numbers above 0")
        for layer, costs in self.pairs.items():
            if not np.array_equal(costs, costs.T) or (costs < 0).any():
                raise ArtifactError(
                    f"layer {layer}: what pairs of experts cost must be symmetric, none below 0"
                )

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {
            "schema": SCHEMA,
            "criterion": self.criterion,
            "model": self.model.to_json(),
            "router": self.router.to_json(),
            "observations": [dict(observation) for observation in self.observations],
            "layers": _as_lists(self.layers),
        }
        if self.pairs:  # the lower triangle, row by row
            value["pairs"] = {
                str(i): [row[: n + 1].tolist() for n, row in enumerate(self.pairs[i])]
                for i in sorted(self.pairs)
            }
        if self.peaks:
            value["peaks"] = _as_lists(self.peaks)
        if self.domains:
            value["mix"] = self.mix
            value["domains"] = [
                {"weight": each.weight, "layers": _as_lists(each.layers)} for each in self.domains
            ]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Scores":
        """Raises ArtifactError where the value is not a set of scores of this schema."""
        check_schema(value, SCHEMA)
        if not isinstance(value.get("criterion"), str):
            raise ArtifactError("the entry 'criterion' must be a string")
        observations = value.get("observations")
        if not isinstance(observations, list) or not all(
            isinstance(o, Mapping) for o in observations
        ):
            raise ArtifactError("the entry 'observations' must be a list of objects")
        domains = value.get("domains", [])
        if not isinstance(domains, list) or any(
            not isinstance(each, Mapping) or type(each.get("weight")) not in (int, float)
            for each in domains
        ):
            raise ArtifactError("the entry 'domains' must be a list of objects with a weight")
        return cls(
            criterion=value["criterion"],
            model=ModelIdentity.from_json(value.get("model")),
            router=Router.from_json(value.get("router")),
            observations=tuple(observations),
            layers=_arrays(value),
            pairs=_pairs(value["pairs"]) if "pairs" in value else {},
            peaks=_arrays({"layers": value["peaks"]}) if "peaks" in value else {},
            mix=value.get("mix", "mean"),
            domains=tuple(DomainScores(each["weight"], _arrays(each)) for each in domains),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `scores.json` (the form is in docs/formats.md)."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Scores":
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is missing or holds no scores; the message says where.
        """
        return read_artifact(path, "scores", cls.from_json)


def _check_shapes(layers: Mapping[int, Float64], shape: tuple[int, ...]) -> None:
    for layer, scores in layers.items():
        if scores.shape != shape:
            raise ArtifactError(
                f"layer {layer} has scores of the shape {list(scores.shape)}, not {list(shape)}: "
                f"the router has {shape[0]} experts"
            )
        if not np.isfinite(scores).all():
            raise ArtifactError(f"layer {layer} has a score that is not a finite number")


def _as_lists(layers: Mapping[int, Float64]) -> dict[str, list[float]]:
    return {str(layer): layers[layer].tolist() for layer in sorted(layers)}


def _arrays(value: Mapping[str, Any]) -> dict[int, Float64]:
    return {layer: _numbers(layer, numbers) for layer, numbers in layer_entries(value).items()}


def _pairs(value: Any) -> dict[int, Float64]:
    layers = {}
    for layer, rows in layer_entries({"layers": value}).items():
        if any(not isinstance(row, list) or len(row) != n + 1 for n, row in enumerate(rows)):
            raise ArtifactError(f"layer {layer}: 'pairs' must be the rows of a lower triangle")
        costs = np.zeros((len(rows), len(rows)))
        for n, row in enumerate(rows):
            costs[n, : n + 1] = costs[: n + 1, n] = _numbers(layer, row)
        layers[layer] = costs
    return layers


def _numbers(layer: int, numbers: list[Any]) -> Float64:
    if any(type(number) not in (int, float) for number in numbers):
        raise ArtifactError(f"layer {layer}: scores must be numbers")
    try:
        return np.array(numbers, dtype=np.float64)
    except OverflowError:
        raise ArtifactError(f"layer {layer}: a score is too large") from None
