"""A file's bytes in blocks."""

from pathlib import Path

import pytest

from easyep.checkpoint import blocks as module
from easyep.checkpoint.blocks import blocks, contents
from easyep.checkpoint.copying import Range, Sources
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.output_files import OutputTensor
from easyep.errors import CheckpointError
from tests.checkpoint.raw_files import deepseek_fp8


def test_blocks_are_full_but_for_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 10)
    found = [block.parts for block in blocks([b"header", Range("a", 5, 20), Range("b", 0, 3)])]
    assert found == [
        (b"header", Range("a", 5, 9)),
        (Range("a", 9, 19),),
        (Range("a", 19, 20), Range("b", 0, 3)),
    ]
    assert not list(blocks([]))
    assert not list(blocks([b"", Range("a", 7, 7)]))


def test_contents_join_ranges_and_hold_changed_values(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(deepseek_fp8(tmp_path / "m"))
    shard = next(iter(checkpoint.shards))
    first, second = Range(shard, 0, 4), Range(shard, 4, 9)
    raw = (checkpoint.path / shard).read_bytes()

    def tensor(*ranges: Range, size: int = 4, change: object = None) -> OutputTensor:
        return OutputTensor("t", "U8", (size,), ranges, change)  # type: ignore[arg-type]

    with Sources(checkpoint.path, checkpoint.shards.values()) as sources:
        plain = [tensor(first), tensor(second)]
        turned = tensor(first, change=lambda data: data[::-1])
        assert list(contents([*plain, turned, *plain], sources)) == [
            Range(shard, 0, 9),
            raw[:4][::-1],
            Range(shard, 0, 9),
        ]
        wrong = tensor(first, size=3, change=bytes)
        with pytest.raises(CheckpointError, match=r"'t' needs 3 bytes as U8 \[3\].* take 4"):
            list(contents([wrong], sources))
