"""Tables and later axes, against plain Python over lists."""

import random
from collections import Counter

import numpy as np
import pytest

from easyep.checkpoint.computed import cut_rows, remapped_table
from easyep.checkpoint.headers import Tensor
from easyep.checkpoint.moe_layer import RowsTensor
from easyep.errors import CheckpointError


def table(rows: list[list[int]], dtype: str = "I64") -> tuple[bytes, Tensor]:
    data = np.array(rows, "<i8" if dtype == "I64" else "<i4").tobytes()
    shape = (len(rows), len(rows[0]))
    return data, Tensor("tid2eid", "a", dtype, shape, 0, len(data))


def reference(rows: list[list[int]], kept: list[int]) -> list[list[int]]:
    """The stated rule, row by row."""
    together = Counter((a, b) for row in rows for a in row for b in row)
    result = []
    for row in rows:
        new = [each if each in kept else None for each in row]
        for place, old in enumerate(row):
            if new[place] is None:
                free = [each for each in kept if each not in new]
                new[place] = min(free, key=lambda each: (-together[old, each], each))
        result.append([kept.index(each) for each in new])
    return result


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", ["I64", "I32"])
def test_dropped_experts_are_replaced_by_the_stated_rule(seed: int, dtype: str) -> None:
    draw = random.Random(seed)
    rows = [draw.sample(range(12), 4) for _ in range(60)]
    kept = sorted(draw.sample(range(12), draw.randint(4, 11)))
    data, tensor = table(rows, dtype)
    new = np.frombuffer(remapped_table(data, tensor, kept, 12), "<i8" if dtype == "I64" else "<i4")
    found = new.reshape(60, 4).tolist()
    assert found == reference(rows, kept)
    assert all(len(set(row)) == 4 and max(row) < len(kept) for row in found)


@pytest.mark.parametrize(
    ("rows", "kept", "message"),
    [
        ([[0, 12]], [0, 1, 2], "names experts 0 to 12; there are 12"),
        ([[0, -1]], [0, 1, 2], "names experts -1 to 0"),
        ([[3, 3]], [0, 1, 2], "names an expert twice in a row"),
        ([[1, 3, 3]], [0, 1, 2], "names an expert twice in a row"),
        ([[0, 1, 2]], [0, 1], "gives each token 3 experts; 2 are kept"),
    ],
)
def test_tables_that_are_none(rows: list[list[int]], kept: list[int], message: str) -> None:
    data, tensor = table(rows)
    with pytest.raises(CheckpointError, match=message):
        remapped_table(data, tensor, kept, 12)


def test_a_table_of_another_type_is_refused() -> None:
    with pytest.raises(CheckpointError, match="is F32"):
        remapped_table(b"", Tensor("t", "a", "F32", (0, 2), 0, 0), [0, 1], 12)


@pytest.mark.parametrize("shape", [(3, 8), (3, 9), (2, 8, 3)])
def test_rows_along_a_later_axis(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype="<f4").reshape(shape)
    tensor = Tensor("gate", "a", "F32", shape, 0, values.nbytes)
    rows = RowsTensor(tensor, axis=1, rows_per_expert=2, tail=shape[1] % 2, layers=(0,))
    found = cut_rows(values.tobytes(), rows, [[1, 3]])
    expected = values[:, [2, 3, 6, 7, *range(8, shape[1])]]
    assert found == expected.tobytes()


def test_an_entry_for_each_of_two_sets_of_experts() -> None:
    values = np.arange(16, dtype="<f4").reshape(2, 8)
    tensor = Tensor("bias", "a", "F32", (2, 8), 0, values.nbytes)
    rows = RowsTensor(tensor, axis=1, rows_per_expert=1, tail=0, layers=(3, 7))
    found = np.frombuffer(cut_rows(values.tobytes(), rows, [[0, 5], [1, 2]]), "<f4")
    assert found.reshape(2, 2).tolist() == [[0, 5], [9, 10]]
