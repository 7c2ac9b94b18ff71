"""What the tensors of a layer become when some of its experts are left out."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import prod

from easyep.checkpoint.computed import cut_rows, remapped_table
from easyep.checkpoint.copying import Range
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.headers import BITS, Tensor
from easyep.checkpoint.layout import Layout
from easyep.checkpoint.moe_layer import ExpertTensor, MoeLayer, RowsTensor
from easyep.checkpoint.output_files import OutputTensor, Unit
from easyep.errors import LayoutError

# How names go on behind the name of a matrix, in all formats.
_COMPANION = re.compile(
    r"[._](?:q?weight|blocks|bias|qzeros|g_idx|(?:(?:input|activation|global)_)*scales?)"
    r"(?:[._]\w+)*$",
    re.ASCII,
)


def units_of(
    checkpoint: Checkpoint,
    layout: Layout,
    kept: Mapping[int, tuple[int, ...]],
    *,
    drop_mtp: bool,
) -> Iterator[Unit]:
    """All tensors to be written.

    Args:
        kept: for every MoE layer the experts that stay, in order.
        drop_mtp: whether MTP layers are left out.
    """
    singles: list[Unit] = []
    for layer in layout.layers.values():
        if layer.is_mtp and drop_mtp:
            continue
        yield from _experts(layer, kept[layer.index])
        singles += _singles(layer, kept, layout.router.num_experts)
    for name in layout.kept:
        if not (drop_mtp and layout.is_mtp(name)):
            tensor = checkpoint.tensors[name]
            singles.append(Unit(layout.layer_of.get(name), _place(tensor), (_whole(tensor, name),)))
    yield from _joined(singles)


def tensors_of(
    layout: Layout, layer: MoeLayer, kept: Mapping[int, tuple[int, ...]]
) -> Iterator[OutputTensor]:
    """What depends on the choice of experts in one layer; arguments as in `units_of`."""
    for unit in (
        *_experts(layer, kept[layer.index]),
        *_singles(layer, kept, layout.router.num_experts),
    ):
        yield from unit.tensors


def uneven(layout: Layout) -> int | None:
    """A layer whose experts are not all stored alike, None if there is none.

    Where there is none, names, types, shapes and places of all tensors to be written depend on the
    number of kept experts alone.
    """
    for index, layer in layout.layers.items():
        forms = {
            frozenset((each.head, each.tail, each.tensor.dtype, each.tensor.shape) for each in own)
            for own in layer.experts
        }
        if len(forms) > 1:
            return index
    return None


def _experts(layer: MoeLayer, kept: Sequence[int]) -> Iterator[Unit]:
    """The experts of a layer that has them one by one, by their new numbers.

    The tensors of all have the order that those of the first have in the source: then the places
    of all tensors do not depend on which experts stay.
    """
    if not layer.experts:
        return
    first = sorted(layer.experts[0], key=lambda each: _place(each.tensor))
    order = {(each.head, each.tail): number for number, each in enumerate(first)}

    def rank(each: ExpertTensor) -> tuple[int, tuple[str, int]]:
        return order.get((each.head, each.tail), len(order)), _place(each.tensor)

    for new, expert in enumerate(kept):
        members = sorted(layer.experts[expert], key=rank)
        yield Unit(
            layer.place,
            _place(members[0].tensor),
            tuple(_whole(each.tensor, each.renumbered(new, len(kept))) for each in members),
            expert=members[0].bank * len(kept) + new,
        )


def _singles(layer: MoeLayer, kept: Mapping[int, tuple[int, ...]], experts: int) -> Iterator[Unit]:
    """The tensors of a layer that hold something of every expert."""
    for rows in layer.rows:
        yield Unit(layer.place, _place(rows.tensor), (_sliced(rows, kept, experts),))
    for table in layer.tables:
        changed = _remapped(table, kept[layer.index], experts)
        yield Unit(layer.place, _place(table), (changed,))


def _joined(singles: Iterable[Unit]) -> Iterator[Unit]:
    """Units of one tensor, with those made one that store one matrix: its numbers, scales, bias."""
    matrices: dict[str, list[Unit]] = {}
    for unit in singles:
        name = unit.tensors[0].name
        matrices.setdefault(_COMPANION.sub("", name), []).append(unit)
    for units in matrices.values():
        units.sort(key=lambda unit: unit.at)
        tensors = tuple(tensor for unit in units for tensor in unit.tensors)
        yield Unit(units[0].layer, units[0].at, tensors)


def _place(tensor: Tensor) -> tuple[str, int]:
    return tensor.shard, tensor.begin


def _whole(tensor: Tensor, name: str) -> OutputTensor:
    return OutputTensor(name, tensor.dtype, tensor.shape, (Range.of(tensor),))


def _sliced(rows: RowsTensor, kept: Mapping[int, tuple[int, ...]], experts: int) -> OutputTensor:
    """The rows of the kept experts and the tail."""
    tensor, per = rows.tensor, rows.rows_per_expert
    bits = BITS[tensor.dtype] * prod(tensor.shape[rows.axis + 1 :])
    cut = bits if rows.axis else bits * per  # along a later axis rows are cut one by one
    if cut % 8:
        raise LayoutError(
            f"tensor {tensor.name!r} ({tensor.dtype}) cannot be cut between experts: "
            f"{'a row takes' if rows.axis else 'the rows of an expert take'} {cut} bits, which do "
            "not fill whole bytes"
        )
    shape = rows.shape_with(len(kept[rows.layers[0]]))
    if rows.axis:
        # Rows along a later axis lie scattered: routers, small enough to be cut in memory.
        change = partial(cut_rows, rows=rows, kept=[kept[layer] for layer in rows.layers])
        return OutputTensor(tensor.name, tensor.dtype, shape, (Range.of(tensor),), change)
    blocks = [(expert * per, (expert + 1) * per) for expert in kept[rows.layers[0]]]
    if rows.tail:
        blocks.append((experts * per, experts * per + rows.tail))
    ranges = tuple(
        Range(tensor.shard, tensor.begin + first * bits // 8, tensor.begin + last * bits // 8)
        for first, last in blocks
    )
    return OutputTensor(tensor.name, tensor.dtype, shape, ranges)


def _remapped(table: Tensor, kept: tuple[int, ...], experts: int) -> OutputTensor:
    change = partial(remapped_table, table=table, kept=kept, experts=experts)
    return OutputTensor(table.name, table.dtype, table.shape, (Range.of(table),), change)
