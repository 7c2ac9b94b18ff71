"""Whether a pruned checkpoint holds exactly the bytes of its source, expert by expert.

This does not use the plan that the rewriter works from: what belongs together is derived again
from the names and shapes on both sides, so that a mistake in the plan would be seen.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path

from easyep.checkpoint.copying import BUFFER_BYTES
from easyep.checkpoint.files import Checkpoint, checked_file
from easyep.checkpoint.headers import Tensor
from easyep.checkpoint.layout import Layout
from easyep.checkpoint.moe_layer import MoeLayer, RowsTensor
from easyep.errors import CheckpointError
from easyep.progress import Progress


@dataclass(frozen=True, slots=True)
class Pair:
    """Bytes of the pruned checkpoint and the bytes of the source that they must equal."""

    what: str
    pruned: Tensor
    pruned_at: int
    source: Tensor
    source_at: int
    nbytes: int


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


def pairs(
    pruned: Checkpoint,
    pruned_layout: Layout,
    source: Checkpoint,
    source_layout: Layout,
    kept: Mapping[int, tuple[int, ...]],
) -> Iterator[Pair]:
    """Everything that must be equal, for two layouts with the same names."""
    for name in pruned_layout.kept:
        mine, theirs = pruned.tensors[name], source.tensors[name]
        yield Pair(f"tensor {name!r}", mine, 0, theirs, 0, mine.nbytes)
    for index, layer in pruned_layout.layers.items():
        original = source_layout.layers[index]
        for new, old in enumerate(kept[index] if layer.experts else ()):
            theirs_by_name = {(e.head, e.tail): e.tensor for e in original.experts[old]}
            for each in layer.experts[new]:
                theirs = theirs_by_name[(each.head, each.tail)]
                what = f"tensor {each.tensor.name!r} (expert {old} of the source)"
                yield Pair(what, each.tensor, 0, theirs, 0, each.tensor.nbytes)
        rows_by_name = {rows.tensor.name: rows for rows in original.rows}
        for rows in layer.rows:
            yield from _rows(
                rows, rows_by_name[rows.tensor.name], [kept[layer] for layer in rows.layers]
            )


def _rows(pruned: RowsTensor, source: RowsTensor, kept: list[tuple[int, ...]]) -> Iterator[Pair]:
    mine, theirs, axis = pruned.tensor, source.tensor, pruned.axis
    outer = prod(mine.shape[:axis])
    if not outer or not mine.nbytes:
        return
    row = mine.nbytes // (outer * mine.shape[axis])
    expert = row * pruned.rows_per_expert
    for block in range(outer):
        to, at = block * row * mine.shape[axis], block * row * theirs.shape[axis]
        mine_kept = kept[block % len(kept)]
        for new, old in enumerate(mine_kept):
            what = f"expert {new} in tensor {mine.name!r} (expert {old} of the source)"
            yield Pair(what, mine, to + new * expert, theirs, at + old * expert, expert)
        if pruned.tail:
            what = f"the rows behind the experts in tensor {mine.name!r}"
            to, at = to + len(mine_kept) * expert, at + (theirs.shape[axis] - pruned.tail) * row
            yield Pair(what, mine, to, theirs, at, pruned.tail * row)


def different_formats(found: list[Pair]) -> Iterator[str]:
    """Tensors whose type, or whose shape away from the experts' axis, is not the source's."""
    seen = set()
    for pair in found:
        mine, theirs = pair.pruned, pair.source
        if mine.name in seen:
            continue
        seen.add(mine.name)
        same = [a == b for a, b in zip(mine.shape, theirs.shape, strict=False)]
        whole = pair.nbytes == theirs.nbytes
        fits = len(mine.shape) == len(theirs.shape) and same.count(False) <= (0 if whole else 1)
        if mine.dtype != theirs.dtype or not fits:
            yield (
                f"tensor {mine.name!r} is {mine.dtype} {list(mine.shape)}, "
                f"in the source {theirs.dtype} {list(theirs.shape)}"
            )


def different_bytes(
    found: list[Pair], pruned: Path, source: Path, progress: Progress
) -> Iterator[str]:
    """Pairs whose bytes differ, in words; `pruned` and `source` are the directories."""
    # In the order of the pruned files, so that both sides are read nearly from front to back.
    found = sorted(found, key=lambda pair: (pair.pruned.shard, pair.pruned.begin + pair.pruned_at))
    total = sum(pair.nbytes for pair in found)
    with ExitStack() as stack, progress.task("comparing with the source", total, "bytes") as task:
        open_files: dict[tuple[Path, str], int] = {}

        def read(root: Path, tensor: Tensor, at: int, count: int) -> bytes:
            key = (root, tensor.shard)
            try:
                if key not in open_files:
                    open_files[key] = os.open(checked_file(root, tensor.shard), os.O_RDONLY)
                    stack.callback(os.close, open_files[key])
                return os.pread(open_files[key], count, tensor.begin + at)
            except OSError as error:
                raise CheckpointError(
                    f"{root / tensor.shard} cannot be read: {error.strerror or error}"
                ) from None

        for pair in found:
            for done in range(0, pair.nbytes, BUFFER_BYTES):
                count = min(BUFFER_BYTES, pair.nbytes - done)
                mine = read(pruned, pair.pruned, pair.pruned_at + done, count)
                theirs = read(source, pair.source, pair.source_at + done, count)
                task.advance(count)
                if mine != theirs:
                    yield f"{pair.what} differs from the source"
                    task.advance(pair.nbytes - done - count)
                    break
