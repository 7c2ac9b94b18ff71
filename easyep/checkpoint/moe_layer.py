"""What one MoE layer of a checkpoint consists of, as the family's rules explain it."""

from collections.abc import Mapping
from dataclasses import dataclass

from easyep.checkpoint.headers import Tensor


@dataclass(frozen=True, slots=True)
class ExpertTensor:
    """A tensor of one expert; its name without the expert's number is ``head + tail``.

    Where two sets of experts share one series of numbers, those of the second (`bank` 1) are
    numbered behind those of the first; `expert` counts within the set.
    """

    tensor: Tensor
    expert: int
    head: str
    tail: str
    bank: int = 0

    def renumbered(self, expert: int, experts: int) -> str:
        """The tensor's name if it were that of `expert` in sets of `experts`."""
        return f"{self.head}{self.bank * experts + expert}{self.tail}"


@dataclass(frozen=True, slots=True)
class RowsTensor:
    """A tensor with rows for every expert along `axis`, and `tail` more behind them.

    `layers` says whose experts: one layer's number; or several, one for each entry of the axis
    before `axis`.
    """

    tensor: Tensor
    axis: int
    rows_per_expert: int
    tail: int
    layers: tuple[int, ...]

    def shape_with(self, experts: int) -> tuple[int, ...]:
        """Its shape with another number of experts."""
        shape = list(self.tensor.shape)
        shape[self.axis] = experts * self.rows_per_expert + self.tail
        return tuple(shape)


@dataclass(frozen=True)
class MoeLayer:
    """The routed experts and the router of one layer.

    Attributes:
        index: the layer's number in selections.
        place: the decoder layer that it lies in; its own number for an MTP layer.
        prefix: what its tensors' names begin with.
        is_mtp: whether it is a multi-token-prediction layer, numbered after the last layer.
        experts: for each expert its own tensors; empty where all experts are stacked.
        rows: tensors with rows for every expert: router, biases, stacked experts.
        tables: tensors whose values are experts' numbers.
        parts: name of a rowed tensor or table -> the part that the family calls it
            (``"router"``, ...).
    """

    index: int
    place: int
    prefix: str
    is_mtp: bool
    experts: tuple[tuple[ExpertTensor, ...], ...]
    rows: tuple[RowsTensor, ...]
    tables: tuple[Tensor, ...]
    parts: Mapping[str, str]
