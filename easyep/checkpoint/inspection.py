"""What is in a checkpoint, from its configuration and headers alone."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from easyep import choices
from easyep.architectures.router import Router, budget
from easyep.architectures.spec import Architecture, find_architecture
from easyep.checkpoint.config_edits import QUANTISATION_FILES, quantisation_settings
from easyep.checkpoint.files import Checkpoint, parse_object, read_text
from easyep.checkpoint.json_text import at
from easyep.checkpoint.layout import Layout, resolve
from easyep.checkpoint.parts import Part, parts
from easyep.errors import SelectionError

_KEY = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)+", re.ASCII)

FRACTIONS: tuple[float, ...] = (0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Saving:
    """What a checkpoint with `keep` experts per layer would be.

    Attributes:
        keep: experts per layer; a count that the router can work with.
        bytes: of all tensors then, MTP layers included.
        fraction: `bytes` as a share of what they are now.
    """

    keep: int
    bytes: int
    fraction: float


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint is made of.

    Attributes:
        model_type: as `config.json` says.
        architecture: the family that easyep takes it for.
        layers: decoder layers.
        moe_layers: those with routed experts.
        second_layers: those with a second set of routed experts, and what it is called.
        mtp_layers: multi-token-prediction layers with routed experts, numbered behind the last.
        experts: routed experts per layer.
        top_k: experts per token.
        n_group: groups of the router; 1 = none.
        topk_group: groups that a token may use.
        routing: how scores become weights, as the architecture describes it; None where it is
            left to a setting that `config.json` does not state.
        quantization: the method that the settings of a quantiser name, if there are any.
        shards: number of weight files.
        tensors: number of tensors.
        bytes: of all tensors.
        parts: what they are for.
        savings: what a smaller number of experts would leave.
    """

    model_type: str
    architecture: str
    layers: int
    moe_layers: tuple[int, ...]
    second_layers: Mapping[str, tuple[int, ...]]
    mtp_layers: tuple[int, ...]
    experts: int
    top_k: int
    n_group: int
    topk_group: int
    routing: Mapping[str, Any]
    quantization: str | None
    shards: int
    tensors: int
    bytes: int
    parts: tuple[Part, ...]
    savings: tuple[Saving, ...]

    def part(self, name: str) -> Part:
        """The part of that name, with nothing in it where the checkpoint has no such part."""
        return next((part for part in self.parts if part.name == name), Part(name, 0, 0, {}))

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "moe_layers": list(self.moe_layers),
            "second_layers": {name: list(layers) for name, layers in self.second_layers.items()},
            "mtp_layers": list(self.mtp_layers),
            "routing": dict(self.routing),
            "parts": [part.to_json() for part in self.parts],
            "savings": [dict(vars(saving)) for saving in self.savings],
        }


def inspect(path: str | os.PathLike[str], keep: Sequence[float] = FRACTIONS) -> Inspection:
    """Describe the checkpoint in the directory `path`; no weight is read.

    Args:
        path: the checkpoint; its weight files can be sparse, their headers are enough.
        keep: what to tell the savings of: fractions of the experts, for which the nearest count
            that works is taken, or counts.

    Raises:
        ModelNotFoundError, CheckpointError, UnsupportedModelError, LayoutError: as
            `Checkpoint.open`, `find_architecture` and `layout.resolve` do.
        SelectionError: the router cannot work with a count of `keep`.
    """
    checkpoint = Checkpoint.open(path)
    architecture = find_architecture(checkpoint.config)
    layout = resolve(checkpoint, architecture)
    router = layout.router
    second = tuple(layout.layers[layer].place for layer in layout.second_layers)
    return Inspection(
        model_type=str(checkpoint.config.get("model_type", "")),
        architecture=architecture.name,
        layers=router.num_layers,
        moe_layers=layout.moe_layers,
        second_layers={layout.second: second} if second else {},
        mtp_layers=layout.mtp_layers,
        experts=router.num_experts,
        top_k=router.top_k,
        n_group=router.n_group,
        topk_group=router.topk_group,
        routing=_routing(checkpoint, architecture),
        quantization=_quantization(checkpoint),
        shards=len(checkpoint.shards),
        tensors=len(checkpoint.tensors),
        bytes=checkpoint.nbytes,
        parts=tuple(parts(checkpoint, layout, architecture)),
        savings=tuple(_savings(checkpoint, layout, _counts(router, keep))),
    )


def _routing(checkpoint: Checkpoint, architecture: Architecture) -> dict[str, Any]:
    """The architecture's description with the names of keys replaced by their values.

    A word with an underscore is a key; where `config.json` is silent about it, the value is None.
    """
    section = at(checkpoint.config, architecture.section(checkpoint.config))

    def value_of(described: Any) -> Any:
        is_key = isinstance(described, str) and (described in section or _KEY.fullmatch(described))
        return section.get(described) if is_key else described

    return {what: value_of(described) for what, described in architecture.routing.items()}


def _quantization(checkpoint: Checkpoint) -> str | None:
    """What the settings of quantisers say first, in `config.json` or else in a file beside it."""
    found = [settings for _, settings in quantisation_settings(checkpoint.config)]
    for name in QUANTISATION_FILES:
        if (checkpoint.path / name).is_file():
            value = parse_object(read_text(checkpoint.path, name), name)
            found += [value, *(settings for _, settings in quantisation_settings(value))]
    keys = ("quant_method", "quant_algo")
    methods = (str(each[key]) for each in found for key in keys if each.get(key))
    return next(methods, "unnamed" if found else None)


def _counts(router: Router, keep: Sequence[float]) -> list[int]:
    """The counts of experts to look at, each once; of `FRACTIONS` those that work."""
    counts: dict[int, None] = {}
    for each in choices.several(budget)("keep", keep):
        try:
            counts[router.count(each, "balanced")] = None
        except SelectionError:
            if keep is not FRACTIONS:
                raise
    return list(counts)


def bytes_per_expert(layout: Layout) -> float:
    """Bytes that one expert less per layer saves: its tensors and rows in all layers together."""
    saved = 0.0
    for layer in layout.layers.values():
        saved += (
            sum(each.tensor.nbytes for expert in layer.experts for each in expert)
            / layout.router.num_experts
        )
        for rows in layer.rows:
            count = rows.tensor.shape[rows.axis]
            saved += rows.tensor.nbytes * rows.rows_per_expert / count
    return saved


def _savings(checkpoint: Checkpoint, layout: Layout, counts: Sequence[int]) -> list[Saving]:
    router, total = layout.router, checkpoint.nbytes
    per_expert = bytes_per_expert(layout)
    savings = []
    for keep in counts:
        left = round(total - per_expert * (router.num_experts - keep))
        savings.append(Saving(keep, left, left / total if total else 1.0))
    return savings
