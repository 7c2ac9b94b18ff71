"""The weights of one MoE layer as numbers, streamed from the checkpoint."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from easyep.checkpoint.copying import Sources
from easyep.checkpoint.decoding import DEFAULT_BLOCK, Float32, Matrix, decoded
from easyep.checkpoint.headers import BITS, Tensor
from easyep.checkpoint.moe_layer import MoeLayer
from easyep.errors import UnsupportedModelError

# Endings of tensors that are no weights and change none: they are passed over.
PASSED_OVER = ("bias", "input_scale", "activation_scale", "weight_shape")


class StoredWeights:
    """One layer's router and experts, decoded when they are asked for.

    Args:
        layer: which tensors are whose.
        config: the parsed `config.json`, for the block size of its quantisation.
        sources: the files.
    """

    def __init__(self, layer: MoeLayer, config: Mapping[str, Any], sources: Sources) -> None:
        self._layer = layer
        self._sources = sources
        settings = config.get("quantization_config")
        stated = settings.get("weight_block_size") if isinstance(settings, Mapping) else None
        self._block = DEFAULT_BLOCK
        if isinstance(stated, list) and [type(size) for size in stated] == [int, int]:
            self._block = (max(1, stated[0]), max(1, stated[1]))

    def router(self) -> Float32:
        """The router's weight, float32 [E, hidden].

        Raises:
            UnsupportedModelError: the router is not one matrix with a row or column per expert.
        """
        found = [
            rows
            for rows in self._layer.rows
            if self._layer.parts[rows.tensor.name] == "router" and len(rows.tensor.shape) == 2
        ]
        if len(found) != 1 or found[0].rows_per_expert != 1:
            names = ", ".join(rows.tensor.name for rows in found) or "none"
            raise UnsupportedModelError(
                f"layer {self._layer.index} has no router that is one matrix with one vector per "
                f"expert (found: {names})"
            )
        weight = np.moveaxis(decoded(self._sources, found[0].tensor), found[0].axis, 0)
        return weight[: len(weight) - found[0].tail]

    def expert(self, number: int) -> Iterator[Float32]:
        """The matrices of one expert in float32, some rows at a time, [rows, columns]; no biases.

        Raises:
            UnsupportedModelError: they are stored in a way that is not decoded.
        """
        for matrix in self._matrices(number):
            yield from matrix.pieces(self._sources)

    def _matrices(self, expert: int) -> Iterator[Matrix]:
        tensors = {tensor.name: tensor for tensor in self._tensors(expert)}
        weights, scales = [], {}
        for name, tensor in tensors.items():
            if name.endswith(PASSED_OVER):
                continue
            owner = next((each for each in _owners(name) if each in tensors), None)
            if owner is not None:
                scales[owner] = tensor
            else:
                weights.append(tensor)
        for tensor in weights:
            if len(tensor.shape) < 2:
                raise UnsupportedModelError(
                    f"easyep does not know what tensor {tensor.name!r} ({tensor.dtype} "
                    f"{list(tensor.shape)}) does to the weights of its expert"
                )
            yield Matrix(tensor, scales.get(tensor.name), self._block)

    def _tensors(self, expert: int) -> Iterator[Tensor]:
        """The tensors of one expert, those cut from stacked ones included."""
        if self._layer.experts:
            yield from (each.tensor for each in self._layer.experts[expert])
        for rows in self._layer.rows:
            if self._layer.parts[rows.tensor.name] != "experts":
                continue
            tensor, per = rows.tensor, rows.rows_per_expert
            if rows.axis != 0:
                raise UnsupportedModelError(
                    f"tensor {tensor.name!r} has its experts along axis {rows.axis}; easyep "
                    "decodes those that have them along axis 0"
                )
            inner = tensor.shape[1:] if per == 1 else (per, *tensor.shape[1:])
            size = prod(inner) * BITS[tensor.dtype] // 8
            begin = tensor.begin + expert * size
            yield replace(tensor, shape=inner, begin=begin, end=begin + size)


def _owners(name: str) -> Iterator[str]:
    """The tensors that a tensor of this name could be the scales of."""
    if name.endswith("_scales"):
        yield name.removesuffix("_scales") + "_blocks"
    for ending in ("_scale_inv", "_scale", "_qscale"):
        if name.endswith(ending):
            yield name.removesuffix(ending)
    for ending, weight in ((".scale", ".weight"), (".qscale_weight", ".weight")):
        if name.endswith(ending):
            yield name.removesuffix(ending) + weight
