"""Which bytes a pruned tensor must have, against numpy's own slicing."""

from pathlib import Path

import numpy as np
import pytest

from easyep.checkpoint.comparison import Counterpart, Differences
from easyep.checkpoint.copying import Sources
from easyep.checkpoint.headers import Shard, Tensor
from easyep.checkpoint.moe_layer import RowsTensor

BEGIN = 16  # where the tensors begin in their files

# shape of the source, axis, rows per expert, rows behind the experts, kept experts of each set
CASES = {
    "rows": ((6, 4), 0, 1, 0, [(1, 4)]),
    "several rows for each expert": ((12, 3), 0, 2, 0, [(0, 2, 5)]),
    "rows behind the experts": ((8, 5), 0, 1, 2, [(0, 5)]),
    "a later axis": ((3, 6), 1, 1, 0, [(2, 3, 5)]),
    "a later axis with more behind": ((2, 3, 7, 2), 2, 1, 1, [(0, 3)]),
    "two sets of experts": ((2, 6), 1, 1, 0, [(0, 1, 5), (2, 3, 4)]),
    "nothing in it": ((0, 6), 1, 1, 0, [(2,)]),
}


@pytest.mark.parametrize("case", CASES)
def test_ranges_and_words_are_those_of_the_experts(case: str, tmp_path: Path) -> None:
    shape, axis, per, tail, kept = CASES[case]
    values = np.arange(int(np.prod(shape)), dtype="<i4").reshape(shape)
    (tmp_path / "source").write_bytes(bytes(BEGIN) + values.tobytes())
    experts = (shape[axis] - tail) // per
    chosen = [
        [e * per + i for e in ids for i in range(per)] + list(range(experts * per, shape[axis]))
        for ids in kept
    ]
    # Sets take turns along the axes before.
    outer = values.reshape(-1, *shape[axis:])
    expected = [block[chosen[i % len(kept)]] for i, block in enumerate(outer)]
    data = b"".join(block.tobytes() for block in expected)

    source = Tensor("x", "source", "I32", shape, BEGIN, BEGIN + values.nbytes)
    small = (*shape[:axis], len(chosen[0]), *shape[axis + 1 :])
    pruned = Tensor("x", "pruned", "I32", small, BEGIN, BEGIN + len(data))
    rows = RowsTensor(source, axis, per, tail, tuple(range(len(kept))))
    counterpart = Counterpart(pruned, source, rows=rows, kept=tuple(kept))
    assert counterpart.shape == small
    with Sources(tmp_path, [Shard("source", BEGIN + values.nbytes, {}, ())]) as sources:
        assert sources.read(counterpart.ranges()) == data

    width = 4 * int(np.prod(shape[axis + 1 :]))
    said = [counterpart.part(at)[0] for at in range(0, len(data), width)]
    words = [
        f"expert {new} in tensor 'x' (expert {old} of the source)"
        for i in range(len(expected))
        for new, old in enumerate(kept[i % len(kept)])
        for _ in range(per)
    ]
    if tail:
        assert said.count("the rows behind the experts in tensor 'x'") == tail * len(expected)
        said = [what for what in said if "behind" not in what]
    assert said == words
    for at in range(len(data)):
        what, end = counterpart.part(at)
        assert end > at
        assert counterpart.part(end - 1)[0] == what


def test_each_part_is_told_once_up_to_a_limit() -> None:
    tensors = [Tensor(f"t{i}", "f", "U8", (10,), 10 * i, 10 * i + 10) for i in range(4)]
    empty = Tensor("empty", "f", "U8", (0,), 20, 20)
    counterparts = [Counterpart(each, each) for each in (*tensors[::-1], empty)]
    right = bytes(range(40))
    wrong = bytearray(right)
    for at in (0, 9, 20, 39):
        wrong[at] ^= 1
    differences = Differences(counterparts, 6)
    for begin in range(0, 40, 7):
        differences.add(wrong[begin : begin + 7], right[begin : begin + 7], begin)
    assert differences.words == [f"tensor 't{i}' differs from the source" for i in (0, 2, 3)]
    limited = Differences(counterparts, 2)
    limited.add(wrong, right, 0)
    assert limited.full
    assert len(limited.words) == 2
