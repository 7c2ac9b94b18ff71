"""MTP layers as released checkpoints hold them, with random weights."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.tiny_models.more import named_tensors


@dataclass(frozen=True)
class MtpLayers:
    """The table ``[mtp]``: a decoder layer once more, and what is around it.

    Attributes:
        count: dotted path of the key in the released `config.json` that states how many; empty
            where no key does.
        name: what MTP layer ``{i}`` is called, with the dot behind; ``{layer}`` counts on from
            the last decoder layer.
        like: the decoder layer whose tensors it has, by its name in the release; ``{last}`` is
            the number of the last.
        saved: `like` is a name before the renaming of ``[[tensors]]``, which then sees the MTP
            layers too: for releases that hold them in another layout than the body.
        extra: further tensors of an MTP layer -> shape, as `random_tensor` has it.
        further: the same with whole names, for tensors outside of the layers.
        own_experts: the number of experts, where it is not the model's.
    """

    count: str = ""
    name: str = "model.layers.{layer}."
    like: str = "model.layers.{last}."
    saved: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)
    further: Mapping[str, str] = field(default_factory=dict)
    own_experts: int | None = None

    def index(self, layers: int) -> int:
        """The number in selections of the first, in a model with `layers` decoder layers."""
        number = int(re.findall(r"\d+", self.name.format(i=0, layer=layers))[-1])
        return number if number >= layers else layers + number

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
            new + name.removeprefix(prefix): torch.randn(tensor.shape, generator=random).to(
                tensor.dtype
            )
            for name, tensor in self._own(model).items()
            if name.startswith(prefix)
        }
        assert layer, f"no tensor's name begins with {prefix}"
        dtype = next(t.dtype for t in model.values() if t.dtype.is_floating_point and t.ndim == 2)
        extra = {new + name: shape for name, shape in self.extra.items()}
        return layer | named_tensors({**extra, **self.further}, sizes, dtype, random)

    def _own(self, model: Mapping[str, Any]) -> Mapping[str, Any]:
        """The model's tensors without the experts and router rows that an MTP layer has not."""
        if self.own_experts is None:
            return model
        own = {}
        for name, tensor in model.items():
            expert = re.search(r"\.experts\.(\d+)\.", name)
            if expert is None or int(expert[1]) < self.own_experts:
                own[name] = tensor[: self.own_experts] if ".gate." in name else tensor
        return own
