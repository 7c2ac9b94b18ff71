"""Which experts of each layer are kept."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyep.artifacts.files import check_schema, layer_entries, read_artifact, write_json
from easyep.artifacts.model_identity import ModelIdentity
from easyep.errors import ArtifactError

SCHEMA = 1
GROUP_MODES = ("balanced", "flatten")


@dataclass(frozen=True)
class Selection:
    """The routed experts that stay, layer by layer.

    Attributes:
        model: the checkpoint that the expert ids refer to.
        num_experts: routed experts per layer before pruning (E).
        keep: routed experts per layer after pruning (K), the same in every layer.
        groups: what happens to a group-limited router: ``"balanced"`` keeps the same number in
            every group, ``"flatten"`` sets ``n_group = topk_group = 1``.
        criterion: the name of the criterion behind the choice.
        layers: layer index -> K ascending expert ids. MTP layers, numbered after the last
            layer, are in it only if they were scored.
    """

    model: ModelIdentity
    num_experts: int
    keep: int
    groups: str
    criterion: str
    layers: Mapping[int, tuple[int, ...]]

    def __post_init__(self) -> None:
        if self.groups not in GROUP_MODES:
            raise ArtifactError(f"groups is {self.groups!r}, not one of {', '.join(GROUP_MODES)}")
        if not 1 <= self.keep <= self.num_experts:
            raise ArtifactError(f"keep is {self.keep}, outside 1 to {self.num_experts}")
        if not self.layers:
            raise ArtifactError("the selection names no layer")
        for layer, kept in self.layers.items():
            if list(kept) != sorted(set(kept)):
                raise ArtifactError(f"layer {layer}: expert ids must be ascending and distinct")
            if len(kept) != self.keep:
                raise ArtifactError(f"layer {layer} keeps {len(kept)} experts, not {self.keep}")
            if kept[0] < 0 or kept[-1] >= self.num_experts:
                raise ArtifactError(
                    f"layer {layer}: expert ids must be 0 to {self.num_experts - 1}"
                )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model.to_json(),
            "num_experts": self.num_experts,
            "keep": self.keep,
            "groups": self.groups,
            "criterion": self.criterion,
            "layers": {str(layer): list(self.layers[layer]) for layer in sorted(self.layers)},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Selection":
        """Raises ArtifactError where the value is not a selection of this schema."""
        check_schema(value, SCHEMA)
        for name, kind in (
            ("num_experts", int),
            ("keep", int),
            ("groups", str),
            ("criterion", str),
        ):
            if type(value.get(name)) is not kind:
                raise ArtifactError(f"the entry {name!r} must be of type {kind.__name__}")
        layers = {}
        for layer, kept in layer_entries(value).items():
            if any(type(expert) is not int for expert in kept):
                raise ArtifactError(f"layer {layer}: expert ids must be integers")
            layers[layer] = tuple(kept)
        return cls(
            model=ModelIdentity.from_json(value.get("model")),
            num_experts=value["num_experts"],
            keep=value["keep"],
            groups=value["groups"],
            criterion=value["criterion"],
            layers=layers,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `selection.json` (the form is in docs/formats.md)."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Selection":
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is missing or is not a selection; the message says where.
        """
        return read_artifact(path, "selection", cls.from_json)
