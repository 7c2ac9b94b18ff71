"""Which part of the model each tensor of a checkpoint belongs to, for people who look at sizes."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyep.architectures.spec import Architecture
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.layout import Layout

ROUTED, ROUTER, SHARED = "routed experts", "router", "shared experts"
ATTENTION, REST, EMBEDDINGS = "attention", "rest of the layers", "embeddings and head"
MTP, VISION, AUDIO = "MTP", "vision", "audio"
PARTS = (ROUTED, ROUTER, SHARED, ATTENTION, REST, EMBEDDINGS, MTP, VISION, AUDIO)

# Names inside a layer, the first that fits; what fits none is the rest.
_IN_LAYERS = {
    SHARED: re.compile(r"(?:^|[._])shared?_(?:mlp|expert)"),
    ROUTED: re.compile(r"(?:^|\.)experts\."),
    ROUTER: re.compile(r"(?:^|\.)(?:gate|router)\."),
    # And what stands in its place: state spaces, convolutions.
    ATTENTION: re.compile(
        r"(?<!post_)(?:attn|attention)|mamba|indexer|conv1d|(?:^|\.)(?:conv|mixer)\."
    ),
}

# Names outside of the language model's layers.
_OUTSIDE = {
    AUDIO: re.compile(r"audio|speech|talker|code2wav"),
    VISION: re.compile(
        r"vision|visual|image|view_sep|sam_model|vit_|projector|resampler|patch_|^mlp1\."
    ),
}


@dataclass(frozen=True)
class Part:
    """What one part of a model takes.

    Attributes:
        name: one of `PARTS`.
        tensors: how many there are.
        bytes: of all of them.
        formats: dtype -> bytes, the most first.
    """

    name: str
    tensors: int
    bytes: int
    formats: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "formats": dict(self.formats)}


def parts(checkpoint: Checkpoint, layout: Layout, architecture: Architecture) -> list[Part]:
    """The parts that the checkpoint has, in the order of `PARTS`."""
    explained = {
        each.tensor.name: ROUTED
        for layer in layout.layers.values()
        for expert in layer.experts
        for each in expert
    }
    for layer in layout.layers.values():
        for name, part in layer.parts.items():
            explained[name] = ROUTED if part == "experts" else ROUTER
    count: Counter[str] = Counter()
    formats: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
    for name, tensor in checkpoint.tensors.items():
        if layout.is_mtp(name):
            part = MTP
        else:
            part = explained.get(name) or _part_of(name, layout, architecture)
        count[part] += 1
        formats[part][tensor.dtype] += tensor.nbytes
    return [
        Part(name, count[name], formats[name].total(), dict(formats[name].most_common()))
        for name in PARTS
        if count[name]
    ]


def _part_of(name: str, layout: Layout, architecture: Architecture) -> str:
    """The part of a tensor that stays as it is."""
    if name in layout.layer_of:
        return next((part for part, names in _IN_LAYERS.items() if names.search(name)), REST)
    excluded = architecture.exclude is not None and architecture.exclude.search(name)
    found = next((part for part, names in _OUTSIDE.items() if names.search(name)), None)
    return found or (VISION if excluded else EMBEDDINGS)
