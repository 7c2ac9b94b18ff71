"""What weights take once they are computed with."""

from pathlib import Path

import pytest

from easyep.checkpoint.files import Checkpoint
from easyep.weighing import weight_bytes
from tests.checkpoint.test_quantised_logits import BLOCK, quantised, to_fp8
from tests.tiny_models import build


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_counted_in_the_type_that_the_model_computes_in(
    tmp_path: Path, dtype: str
) -> None:
    checkpoint = Checkpoint.open(build("mixtral", tmp_path / "m", dtype=dtype))
    assert weight_bytes(checkpoint) == checkpoint.nbytes
    size = {"float32": 4, "bfloat16": 2}[dtype]
    assert weight_bytes(checkpoint, "float32") == checkpoint.nbytes * 4 // size


def test_quantised_weights_count_as_what_they_become(tmp_path: Path) -> None:
    path = build("qwen3_moe", tmp_path / "m", shard_bytes=None, dtype="bfloat16")
    before = weight_bytes(Checkpoint.open(path))
    quantised(path, {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}, to_fp8)
    checkpoint = Checkpoint.open(path)
    scales = sum(t.nbytes for n, t in checkpoint.tensors.items() if n.endswith("_scale_inv"))
    assert weight_bytes(checkpoint) == before + scales
    assert checkpoint.nbytes < before
