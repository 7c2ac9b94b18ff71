"""What every tensor of a pruned checkpoint must equal, expert by expert and row by row.

This does not use the plan that the rewriter works from: what belongs together is derived again
from the names and shapes on both sides, so that a mistake in the plan would be seen.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from easyep.checkpoint.copying import Range
from easyep.checkpoint.files import INDEX, Checkpoint
from easyep.checkpoint.headers import BITS, Tensor
from easyep.checkpoint.layout import Layout
from easyep.checkpoint.moe_layer import MoeLayer, RowsTensor

# What an index may say about all tensors together; less after pruning.
TOTALS = ("total_size", "total_parameters")


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A tensor of the pruned checkpoint beside the one of the source that it comes from.

    Attributes:
        pruned: the tensor in the pruned checkpoint.
        source: the tensor in the source.
        expert: whose tensor it is in the source; None where it is not one expert's.
        rows: `source` as rows of experts; None where all of it is kept.
        kept: (rows) the experts of the source whose rows are kept, in order, for each of the
            layers that `rows` names.
    """

    pruned: Tensor
    source: Tensor
    expert: int | None = None
    rows: RowsTensor | None = None
    kept: tuple[tuple[int, ...], ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the pruned tensor must have."""
        return self.source.shape if self.rows is None else self.rows.shape_with(len(self.kept[0]))

    def ranges(self) -> Iterator[Range]:
        """The bytes of the source that the pruned tensor's must equal, in their order."""
        begin, shard = self.source.begin, self.source.shard
        if self.rows is None or not self.source.nbytes:
            yield Range(shard, begin, self.source.end)
            return
        expert, tail, block = self._sizes()
        for number, start in enumerate(range(begin, self.source.end, block)):
            for old in self.kept[number % len(self.kept)]:
                yield Range(shard, start + old * expert, start + (old + 1) * expert)
            if tail:
                yield Range(shard, start + block - tail, start + block)

    def part(self, at: int) -> tuple[str, int]:
        """What byte `at` of the pruned tensor belongs to, and where that ends in the tensor."""
        name = repr(self.pruned.name)
        if self.expert is not None:
            return f"tensor {name} (expert {self.expert} of the source)", self.pruned.nbytes
        if self.rows is None:
            return f"tensor {name}", self.pruned.nbytes
        expert, tail, _ = self._sizes()
        block = len(self.kept[0]) * expert + tail
        number, inside = divmod(at, block)
        start, new = number * block, inside // expert
        kept = self.kept[number % len(self.kept)]
        if new >= len(kept):
            return f"the rows behind the experts in tensor {name}", start + block
        what = f"expert {new} in tensor {name} (expert {kept[new]} of the source)"
        return what, start + (new + 1) * expert

    def _sizes(self) -> tuple[int, int, int]:
        """Bytes of an expert's rows, of the rows behind the last expert's, and of all rows."""
        assert self.rows is not None
        shape, axis = self.source.shape, self.rows.axis
        bits = BITS[self.source.dtype] * prod(shape[axis + 1 :])
        return (
            bits * self.rows.rows_per_expert // 8,
            bits * self.rows.tail // 8,
            bits * shape[axis] // 8,
        )


def different_names(
    pruned: Layout, source: Layout, kept: Mapping[int, tuple[int, ...]], *, drop_mtp: bool
) -> Iterator[str]:
    """What is missing in the pruned checkpoint, or surplus, in words."""
    dropped = {name for name in source.kept if drop_mtp and source.is_mtp(name)}
    for name in sorted(set(source.kept) - dropped - set(pruned.kept)):
        yield f"tensor {name!r} of the source is missing"
    for name in sorted(set(pruned.kept) - (set(source.kept) - dropped)):
        yield f"tensor {name!r} is not in the source, or should have been dropped"
    for layer in sorted(set(kept) ^ set(pruned.layers)):
        yield f"layer {layer} with routed experts is {'missing' if layer in kept else 'surplus'}"
    for index in sorted(set(kept) & set(pruned.layers)):
        names = [_member_names(layout.layers[index]) for layout in (source, pruned)]
        for name in sorted(names[0] ^ names[1]):
            there = "the source" if name in names[0] else "the pruned checkpoint"
            yield f"layer {index}: only {there} has {name!r}"


def _member_names(layer: MoeLayer) -> set[str]:
    experts = {each.head + "<expert>" + each.tail for each in (layer.experts or [()])[0]}
    tables = {table.name for table in layer.tables}
    return experts | tables | {rows.tensor.name for rows in layer.rows}


def counterparts(
    pruned: Checkpoint,
    pruned_layout: Layout,
    source: Checkpoint,
    source_layout: Layout,
    kept: Mapping[int, tuple[int, ...]],
) -> Iterator[Counterpart]:
    """One for every tensor of `pruned` but tables, for two layouts with the same names."""
    for name in pruned_layout.kept:
        yield Counterpart(pruned.tensors[name], source.tensors[name])
    for index, layer in pruned_layout.layers.items():
        original = source_layout.layers[index]
        for new, old in enumerate(kept[index] if layer.experts else ()):
            theirs = {(each.head, each.tail): each.tensor for each in original.experts[old]}
            for each in layer.experts[new]:
                yield Counterpart(each.tensor, theirs[(each.head, each.tail)], expert=old)
        rows_by_name = {rows.tensor.name: rows for rows in original.rows}
        for mine in layer.rows:
            rows = rows_by_name[mine.tensor.name]
            mine_kept = tuple(kept[layer] for layer in rows.layers)
            yield Counterpart(mine.tensor, rows.tensor, rows=rows, kept=mine_kept)


def different_formats(found: list[Counterpart]) -> Iterator[str]:
    """Tensors whose type, or whose shape away from the experts' axis, is not the source's."""
    for each in found:
        mine, theirs = each.pruned, each.source
        if (mine.dtype, mine.shape) != (theirs.dtype, each.shape):
            yield (
                f"tensor {mine.name!r} is {mine.dtype} {list(mine.shape)}, "
                f"in the source {theirs.dtype} {list(theirs.shape)}"
            )


def different_metadata(pruned: Checkpoint, source: Checkpoint) -> Iterator[str]:
    """Weight files, and the index, whose metadata is not what the files of the source agree on."""
    first, *others = [shard.metadata.items() for shard in source.shards.values()]
    agreed = dict(item for item in first if all(item in other for other in others))
    for shard in pruned.shards.values():
        if shard.metadata != agreed:
            yield f"{shard.name} has {dict(shard.metadata)}, the source {agreed}"
    if pruned.index_metadata is not None:
        mine, theirs = (
            {key: value for key, value in (each or {}).items() if key not in TOTALS}
            for each in (pruned.index_metadata, source.index_metadata)
        )
        if mine != theirs:
            yield f"{INDEX} has {mine}, the source {theirs}"


class Differences:
    """Collects what differs in one file, in words, each part of a tensor once.

    Attributes:
        counterparts: of the tensors of the file, in the order of their bytes.
    """

    def __init__(self, counterparts: Iterable[Counterpart], limit: int) -> None:
        self.counterparts = sorted(counterparts, key=lambda each: _place(each.pruned))
        self._begins = [each.pruned.begin for each in self.counterparts]
        self._limit = limit
        self._found: dict[str, None] = {}

    @property
    def full(self) -> bool:
        """Whether no more will be told."""
        return len(self._found) >= self._limit

    @property
    def words(self) -> list[str]:
        return [f"{what} differs from the source" for what in self._found]

    def add(self, mine: bytes | bytearray, theirs: bytes | bytearray, at: int) -> None:
        """Note where `mine`, which begins at byte `at` of the file, differs from `theirs`."""
        done = 0
        while not self.full and mine[done:] != theirs[done:]:
            done += _in_common(mine[done:], theirs[done:])
            each = self.counterparts[bisect_right(self._begins, at + done) - 1]
            what, end = each.part(at + done - each.pruned.begin)
            self._found[what] = None
            done = each.pruned.begin + end - at


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor.begin, tensor.end


def _in_common(mine: bytes | bytearray, theirs: bytes | bytearray) -> int:
    """How many bytes two unequal sequences of one length begin with alike."""
    low, high = 0, len(mine)
    while high - low > 1:
        middle = (low + high) // 2
        if mine[low:middle] == theirs[low:middle]:
            low = middle
        else:
            high = middle
    return low
