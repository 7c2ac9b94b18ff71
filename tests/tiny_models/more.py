"""Random tensors that released checkpoints have and transformers does not."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any


@dataclass(frozen=True)
class More:
    """One entry of ``[[more]]``: a tensor beside each of those that `beside` matches.

    Attributes:
        beside: regular expression that must match a whole released name.
        name: of the new tensor, in place of what is behind the last dot.
        shape: see `random_tensor`.
    """

    beside: str
    name: str
    shape: str


def with_more(
    tensors: Mapping[str, Any], more: Iterable[More], sizes: Mapping[str, int], generator: Any
) -> dict[str, Any]:
    """`tensors` and those beside them."""
    out = dict(tensors)
    for each in more:
        found = [name for name in tensors if re.fullmatch(each.beside, name)]
        assert found, f"no tensor is called {each.beside}"
        for name in found:
            new = f"{name.rpartition('.')[0]}.{each.name}"
            out[new] = random_tensor(each.shape, sizes, tensors[name].dtype, generator)
    return out


def named_tensors(
    shapes: Mapping[str, str], sizes: Mapping[str, int], dtype: Any, generator: Any
) -> dict[str, Any]:
    """The tensors of ``[further]``: whole names -> random tensors of those shapes."""
    return {name: random_tensor(shape, sizes, dtype, generator) for name, shape in shapes.items()}


def random_tensor(shape: str, sizes: Mapping[str, int], dtype: Any, generator: Any) -> Any:
    """A random tensor.

    Args:
        shape: axes, as numbers or letters with an optional factor: ``"H 2H"``.
        sizes: of the letters: E (experts), H (hidden size), V (vocabulary).
        dtype: torch's.
        generator: torch's.
    """
    import torch

    axes = [_length(axis, sizes) for axis in shape.split()]
    return torch.randn(axes, generator=generator).to(dtype)


def _length(axis: str, sizes: Mapping[str, int]) -> int:
    if axis.isdigit():
        return int(axis)
    return prod([int(axis[:-1] or 1), sizes[axis[-1]]])
