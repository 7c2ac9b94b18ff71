"""Weight files that are proved by what they were made from."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from easyep.checkpoint.copied import Copied
from easyep.checkpoint.copying import Range
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.planning import Plan, plan
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.verification import verify
from tests.checkpoint.conftest import Chooser, Sources
from tests.checkpoint.raw_files import deepseek_fp8

Pruned = tuple[Plan, Path, dict[str, Copied]]


@pytest.fixture
def pruned(tmp_path: Path, choose: Chooser) -> Pruned:
    """A plan, what was written, and what is known of it."""
    path = deepseek_fp8(tmp_path / "m")
    work = plan(path, choose(path), max_shard_size=60_000)
    rewrite(path, work.selection, tmp_path / "out", max_shard_size=60_000)
    return work, tmp_path / "out", known(work, tmp_path / "out")


def known(work: Plan, path: Path) -> dict[str, Copied]:
    return {
        shard.name: Copied(
            hashlib.sha256((path / shard.name).read_bytes()).hexdigest(), shard.tensors
        )
        for shard in work.shards
    }


def test_what_was_copied_from_the_right_bytes_holds(pruned: Pruned) -> None:
    work, path, copied = pruned
    assert verify(path, work.checkpoint.path, copied=copied).ok
    some = dict(list(copied.items())[:1])
    assert verify(path, work.checkpoint.path, copied=some).ok


def test_every_tensor_copied_from_other_bytes_is_found(pruned: Pruned) -> None:
    work, path, copied = pruned
    for name, file in copied.items():
        for number, tensor in enumerate(file.tensors):
            first, *others = tensor.ranges
            moved = replace(first, begin=first.begin - 1, end=first.end - 1)
            tensors = list(file.tensors)
            tensors[number] = replace(tensor, ranges=(moved, *others))
            wrong = {**copied, name: Copied(file.sha256, tuple(tensors))}
            problems = verify(path, work.checkpoint.path, copied=wrong).problems
            assert problems == [
                f"tensor bytes: tensor {tensor.name!r} was copied from other bytes of the source"
            ]


def test_another_expert_another_file_or_another_checksum_is_found(pruned: Pruned) -> None:
    work, path, copied = pruned
    name, file = next((n, f) for n, f in copied.items() if ".experts." in f.tensors[-1].name)
    tensor = file.tensors[-1]
    (at,) = tensor.ranges
    other = Range(next(s for s in work.checkpoint.shards if s != at.shard), at.begin, at.end)
    for ranges in [(other,), (), (at, at)]:
        tensors = (*file.tensors[:-1], replace(tensor, ranges=ranges))
        found = verify(path, work.checkpoint.path, copied={**copied, name: Copied("x", tensors)})
        assert any(tensor.name in problem for problem in found.problems)
        assert any("SHA-256 differs" in problem for problem in found.problems)


def test_order_and_sizes_count(pruned: Pruned) -> None:
    work, path, copied = pruned
    name = max(copied, key=lambda each: len(copied[each].tensors))
    first, second, *others = copied[name].tensors
    for tensors in [(second, first, *others), (first, *others)]:
        wrong = {**copied, name: Copied(copied[name].sha256, tensors)}
        problems = "; ".join(verify(path, work.checkpoint.path, copied=wrong).problems)
        assert "does not lie where it was written" in problems


def test_computed_tensors_are_read(source: Sources, choose: Chooser, tmp_path: Path) -> None:
    path = source("ernie4_5_moe")  # its bias has experts along the second axis
    work = plan(path, choose(path))
    rewrite(path, work.selection, tmp_path / "out")
    copied = known(work, tmp_path / "out")
    assert verify(tmp_path / "out", path, copied=copied).ok
    mine = Checkpoint.open(tmp_path / "out")
    computed = [t.name for s in work.shards for t in s.tensors if t.change is not None]
    assert computed
    for name in computed:
        tensor = mine.tensors[name]
        with open(tmp_path / "out" / tensor.shard, "rb+") as file:
            file.seek(tensor.end - 1)
            last = file.read(1)[0]
            file.seek(tensor.end - 1)
            file.write(bytes([last ^ 1]))
        problems = "; ".join(verify(tmp_path / "out", path, copied=copied).problems)
        assert f"tensor {name!r} differs from the source" in problems
