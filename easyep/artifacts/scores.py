"""How much each expert mattered."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from easyep.architectures.router import Router
from easyep.artifacts.files import read_json, write_json
from easyep.artifacts.model_identity import ModelIdentity
from easyep.artifacts.selection import check_schema, layer_entries
from easyep.errors import ArtifactError

SCHEMA = 1


@dataclass(frozen=True)
class Scores:
    """One number for every routed expert.

    Attributes:
        criterion: the name of the criterion.
        model: the checkpoint that was observed.
        router: its router, so that a budget can be checked without the model.
        observations: for each mixed observation its domain, weight and number of tokens.
        layers: layer index -> float64 [E]; experts never routed to have 0.
    """

    criterion: str
    model: ModelIdentity
    router: Router
    observations: tuple[Mapping[str, Any], ...]
    layers: Mapping[int, npt.NDArray[np.float64]]

    def __post_init__(self) -> None:
        for layer, scores in self.layers.items():
            if scores.shape != (self.router.num_experts,):
                raise ArtifactError(
                    f"layer {layer} has {scores.size} scores for {self.router.num_experts} experts"
                )
            if not np.isfinite(scores).all():
                raise ArtifactError(f"layer {layer} has a score that is not a finite number")

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "criterion": self.criterion,
            "model": self.model.to_json(),
            "router": self.router.to_json(),
            "observations": [dict(observation) for observation in self.observations],
            "layers": {str(i): self.layers[i].tolist() for i in sorted(self.layers)},
        }

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
        layers = {}
        for layer, numbers in layer_entries(value).items():
            if any(type(number) not in (int, float) for number in numbers):
                raise ArtifactError(f"layer {layer}: scores must be numbers")
            try:
                layers[layer] = np.array(numbers, dtype=np.float64)
            except OverflowError:
                raise ArtifactError(f"layer {layer}: a score is too large") from None
        return cls(
            criterion=value["criterion"],
            model=ModelIdentity.from_json(value.get("model")),
            router=Router.from_json(value.get("router")),
            observations=tuple(observations),
            layers=layers,
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
        value = read_json(path, "scores")
        try:
            return cls.from_json(value)
        except ArtifactError as error:
            raise ArtifactError(f"scores: {path}: {error}") from None
