"""MTP layers as released checkpoints hold them, with random weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any


@dataclass(frozen=True)
class MtpLayers:
    """The table ``[mtp]``: a decoder layer once more, and what is around it.

    Attributes:
        count: dotted path of the key in the released `config.json` that states how many.
        name: what MTP layer ``{i}`` is called, with the dot behind; ``{layer}`` counts on from
            the last decoder layer.
        like: the decoder layer whose tensors it has, by its name in the release; ``{last}`` is
            the number of the last.
        extra: further tensors of an MTP layer -> shape, of the letters H (hidden size) and V
            (vocabulary) with an optional factor: ``"H 2H"``.
    """

    count: str
    name: str = "model.layers.{layer}."
    like: str = "model.layers.{last}."
    extra: Mapping[str, str] = field(default_factory=dict)

    def tensors(
        self,
        number: int,
        layers: int,
        model: Mapping[str, Any],
        sizes: Mapping[str, int],
        random: Any,
    ) -> dict[str, Any]:
        """The tensors of MTP layer `number` behind `layers` decoder layers.

        Args:
            number: from 0.
            layers: decoder layers of the model.
            model: its tensors, under their released names.
            sizes: of the letters in `extra`.
            random: torch's generator.
        """
        import torch

        prefix = self.like.format(last=layers - 1)
        new = self.name.format(i=number, layer=layers + number)
        layer = {
            new + name.removeprefix(prefix): _random(tensor.shape, random).to(tensor.dtype)
            for name, tensor in model.items()
            if name.startswith(prefix)
        }
        assert layer, f"no tensor's name begins with {prefix}"
        dtype = next(t.dtype for t in model.values() if t.dtype.is_floating_point and t.ndim == 2)
        for name, shape in self.extra.items():
            dims = [_size(dim, sizes) for dim in shape.split()]
            filled = torch.ones(dims) if len(dims) == 1 else _random(dims, random)
            layer[new + name] = filled.to(dtype)
        return layer


def _random(shape: Any, generator: Any) -> Any:
    import torch

    return torch.randn(tuple(shape), generator=generator)


def _size(dim: str, sizes: Mapping[str, int]) -> int:
    return prod([int(dim[:-1] or 1), sizes[dim[-1]]])
