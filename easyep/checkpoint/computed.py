"""Tensors that are made anew instead of copied: rows along a later axis, tables of experts.

They are small: routers, and the tables by which DeepSeek-V4's first layers send each token of the
vocabulary to fixed experts (``tid2eid``).
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from easyep.checkpoint.headers import BITS, Tensor
from easyep.checkpoint.moe_layer import RowsTensor
from easyep.errors import CheckpointError

INTEGERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "U8": "u1"}


def cut_rows(data: bytes, rows: RowsTensor, kept: Sequence[Sequence[int]]) -> bytes:
    """The rows of kept experts, and the tail, of a tensor whose experts lie along a later axis.

    Args:
        data: the tensor's bytes.
        rows: its form.
        kept: ids of the kept experts in order, for each of `rows.layers`.
    """
    shape, axis, per = rows.tensor.shape, rows.axis, rows.rows_per_expert
    width = prod(shape[axis + 1 :]) * BITS[rows.tensor.dtype] // 8
    blocks = np.frombuffer(data, np.uint8).reshape(-1, shape[axis], width)
    tail = list(range(shape[axis] - rows.tail, shape[axis]))
    chosen = [
        blocks[i, [e * per + j for e in kept[i % len(kept)] for j in range(per)] + tail]
        for i in range(len(blocks))
    ]
    return np.stack(chosen).tobytes() if chosen else b""


def remapped_table(data: bytes, table: Tensor, kept: Sequence[int], experts: int) -> bytes:
    """A table of experts' numbers, with each dropped expert replaced by a kept one.

    The rule: kept experts stay where they are, under their new numbers. A dropped expert's place
    is taken by the kept expert that shares the most rows of this table with it, of equals the
    lower id, among those that are not in the row already; places are filled from left to right.
    So every row keeps as many different experts as it had.

    Args:
        data: the table's bytes, ``[rows, top_k]`` integers.
        table: its form.
        kept: ids of the kept experts in order.
        experts: routed experts before.

    Raises:
        CheckpointError: the table holds something else than experts' numbers, an expert twice in
            a row, or rows wider than the number of kept experts.
    """
    old = table_values(data, table, experts)
    if old.shape[1] > len(kept):
        raise CheckpointError(
            f"tensor {table.name!r} gives each token {old.shape[1]} experts; {len(kept)} are kept"
        )
    new = np.where(np.isin(old, list(kept)), old, -1)
    shared = _shared_rows(old, experts)
    for place in range(old.shape[1]):
        for dropped in np.setdiff1d(old[:, place], list(kept)):
            nearest = sorted(kept, key=lambda each: (-shared[dropped, each], each))
            left = np.flatnonzero(old[:, place] == dropped)
            for candidate in nearest:
                free = left[~(new[left] == candidate).any(axis=1)]
                new[free, place] = candidate
                left = left[new[left, place] < 0]
                if not len(left):
                    break
    number = np.zeros(experts, INTEGERS[table.dtype])
    number[list(kept)] = np.arange(len(kept))
    return number[new].tobytes()


def table_values(data: bytes, table: Tensor, experts: int) -> NDArray[np.int64]:
    """The experts' numbers in a table, ``[rows, top_k]``; raises as `remapped_table` does."""
    if table.dtype not in INTEGERS or len(table.shape) != 2:
        raise CheckpointError(
            f"tensor {table.name!r} is {table.dtype} {list(table.shape)}; a table of experts has "
            f"two dimensions and one of the types {', '.join(INTEGERS)}"
        )
    values = np.frombuffer(data, INTEGERS[table.dtype]).reshape(table.shape).astype(np.int64)
    if values.size and not 0 <= values.min() <= values.max() < experts:
        raise CheckpointError(
            f"tensor {table.name!r} names experts {values.min()} to {values.max()}; there are "
            f"{experts} (0 to {experts - 1})"
        )
    in_order = np.sort(values)
    if (in_order[:, 1:] == in_order[:, :-1]).any():
        raise CheckpointError(f"tensor {table.name!r} names an expert twice in a row")
    return values


def _shared_rows(values: NDArray[np.int64], experts: int) -> NDArray[np.int64]:
    """How many rows two experts share, ``[experts, experts]``."""
    count = np.zeros(experts * experts, dtype=np.int64)
    for i in range(values.shape[1]):
        for j in range(values.shape[1]):
            pairs = values[:, i] * experts + values[:, j]
            count += np.bincount(pairs, minlength=experts * experts)
    return count.reshape(experts, experts)
