"""What is in a checkpoint, from its configuration and headers alone."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyep.architectures.spec import Architecture, find_architecture
from easyep.checkpoint.explaining import is_kept
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.json_text import at
from easyep.checkpoint.layout import Layout, resolve

FRACTIONS = (0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Saving:
    """What a checkpoint with `keep` experts per layer would be.

    Attributes:
        keep: experts per layer; a count that the router can work with.
        bytes: of all tensors then.
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
        mtp_layers: multi-token-prediction layers with routed experts, numbered behind the last.
        experts: routed experts per layer.
        top_k: experts per token.
        n_group: groups of the router; 1 = none.
        topk_group: groups that a token may use.
        routing: how scores become weights, as the architecture describes it.
        quantization: the method that `config.json` names, if any.
        formats: dtype -> number of tensors.
        shards: number of weight files.
        bytes: part of the model -> bytes of its tensors.
        savings: what keeping 75, 50 and 25 % of the experts would leave.
    """

    model_type: str
    architecture: str
    layers: int
    moe_layers: tuple[int, ...]
    mtp_layers: tuple[int, ...]
    experts: int
    top_k: int
    n_group: int
    topk_group: int
    routing: Mapping[str, Any]
    quantization: str | None
    formats: Mapping[str, int]
    shards: int
    bytes: Mapping[str, int]
    savings: tuple[Saving, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "moe_layers": list(self.moe_layers),
            "mtp_layers": list(self.mtp_layers),
            "routing": dict(self.routing),
            "formats": dict(self.formats),
            "bytes": dict(self.bytes),
            "savings": [dict(vars(saving)) for saving in self.savings],
        }


def inspect(path: str | os.PathLike[str]) -> Inspection:
    """Describe the checkpoint in the directory `path`; no weight is read.

    Raises:
        ModelNotFoundError, CheckpointError, UnsupportedModelError: as `Checkpoint.open`,
            `find_architecture` and `layout.resolve` do.
    """
    checkpoint = Checkpoint.open(path)
    architecture = find_architecture(checkpoint.config)
    layout = resolve(checkpoint, architecture)
    router = layout.router
    return Inspection(
        model_type=str(checkpoint.config.get("model_type", "")),
        architecture=architecture.name,
        layers=router.num_layers,
        moe_layers=layout.moe_layers,
        mtp_layers=layout.mtp_layers,
        experts=router.num_experts,
        top_k=router.top_k,
        n_group=router.n_group,
        topk_group=router.topk_group,
        routing=_routing(checkpoint, architecture),
        quantization=_quantization(checkpoint, architecture),
        formats=dict(Counter(t.dtype for t in checkpoint.tensors.values()).most_common()),
        shards=len(checkpoint.shards),
        bytes=_parts(checkpoint, layout, architecture),
        savings=tuple(_savings(checkpoint, layout)),
    )


def _routing(checkpoint: Checkpoint, architecture: Architecture) -> dict[str, Any]:
    """The architecture's description with the names of keys replaced by their values."""
    section = at(checkpoint.config, architecture.section(checkpoint.config))
    return {
        what: section[value] if isinstance(value, str) and value in section else value
        for what, value in architecture.routing.items()
    }


def _quantization(checkpoint: Checkpoint, architecture: Architecture) -> str | None:
    home = architecture.section(checkpoint.config)
    for depth in range(len(home) + 1):
        settings = at(checkpoint.config, (*home[:depth], "quantization_config"))
        if isinstance(settings, Mapping):
            return str(settings.get("quant_method", "unnamed"))
    return None


def _parts(checkpoint: Checkpoint, layout: Layout, architecture: Architecture) -> dict[str, int]:
    part_of: dict[str, str] = {}
    for layer in layout.layers.values():
        for expert in layer.experts:
            part_of.update((each.tensor.name, "routed experts") for each in expert)
        for name, part in layer.parts.items():
            part_of[name] = "routed experts" if part == "experts" else "router"
    for name in layout.kept:
        if name not in layout.layer_of:
            part_of[name] = "embeddings and head"
        elif is_kept(architecture, name):
            part_of[name] = "shared experts"
        else:
            part_of[name] = "attention and rest"
    order = ("routed experts", "router", "shared experts", "attention and rest")
    bytes_of = dict.fromkeys((*order, "embeddings and head", "MTP"), 0)
    for name, tensor in checkpoint.tensors.items():
        bytes_of["MTP" if layout.is_mtp(name) else part_of[name]] += tensor.nbytes
    return bytes_of


def _savings(checkpoint: Checkpoint, layout: Layout) -> list[Saving]:
    router, total = layout.router, checkpoint.nbytes
    per_expert = 0.0  # bytes of one expert's tensors and rows in all layers together
    for layer in layout.layers.values():
        per_expert += (
            sum(each.tensor.nbytes for expert in layer.experts for each in expert)
            / router.num_experts
        )
        for rows in layer.rows:
            count = rows.tensor.shape[rows.axis]
            per_expert += rows.tensor.nbytes * rows.rows_per_expert / count
    savings = {}
    for fraction in FRACTIONS if router.valid_counts("balanced") else ():
        keep = router.nearest_keep(fraction, "balanced")
        left = round(total - per_expert * (router.num_experts - keep))
        savings[keep] = Saving(keep, left, left / total)
    savings.pop(router.num_experts, None)
    return list(savings.values())
