"""Weights as they lie in a checkpoint: what they are read as, and what cannot be read is told."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from easyep.checkpoint.files import Checkpoint
from easyep.errors import UnsupportedModelError
from easyep.observation.weights.reading import WeightReader, stored_weights

Read = Callable[[Mapping[str, Tensor]], Tensor]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes the parts of one weight, and reads it."""

    def written_and_read(parts: Mapping[str, Tensor]) -> Tensor:
        save_file(dict(parts), tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_moe"}))
        return read_only(tmp_path)

    return written_and_read


def read_only(folder: Path) -> Tensor:
    """The one weight of a checkpoint."""
    checkpoint = Checkpoint.open(folder)
    (stored,) = stored_weights(checkpoint.tensors, checkpoint.tensors).values()
    return WeightReader(checkpoint, torch.float32, torch.device("cpu")).read(stored)


def packed(values: Tensor, bits: int) -> Tensor:
    """Signed integers [R, C], several in a 32-bit word, lowest bits first."""
    each, offset = 32 // bits, 1 << (bits - 1)
    rows = [
        [sum((code + offset) << bits * i for i, code in enumerate(row[at : at + each]))
         for at in range(0, len(row), each)]
        for row in values.tolist()
    ]  # fmt: skip
    signed = [[word - (1 << 32) if word >> 31 else word for word in row] for row in rows]
    return torch.tensor(signed, dtype=torch.int32)


def integers(values: Tensor, bits: int) -> dict[str, Tensor]:
    """The parts of a weight of such integers whose scale is 0.5."""
    return {
        "w.weight_packed": packed(values, bits),
        "w.weight_scale": torch.full((len(values), 1), 0.5),
        "w.weight_shape": torch.tensor(values.shape),
    }


VALUES = torch.tensor([[(3 * r + c) % 16 - 8 for c in range(16)] for r in range(8)])


def test_integers_of_four_bits(read: Read) -> None:
    assert torch.equal(read(integers(VALUES, 4)), VALUES / 2)


def test_integers_of_eight_bits_are_refused(read: Read) -> None:
    with pytest.raises(UnsupportedModelError, match="4 words are not 16 integers of 4 bits"):
        read(integers(VALUES, 8))


def test_zero_points_count(read: Read) -> None:
    none = torch.zeros(8, 1, dtype=torch.int8)
    assert torch.equal(read(integers(VALUES, 4) | {"w.weight_zero_point": none}), VALUES / 2)
    some = packed(torch.ones(1, 8, dtype=torch.int64), 4)
    with pytest.raises(UnsupportedModelError, match="its zero points are not all 0"):
        read(integers(VALUES, 4) | {"w.weight_zero_point": some})


@pytest.mark.parametrize("stated", [[0, 8], [8, -8], [8], "8"])
def test_a_stated_block_that_is_none_is_passed_over(tmp_path: Path, stated: object) -> None:
    weight = VALUES.float().to(torch.float8_e4m3fn)
    scale = torch.full((1, 1), 2.0)
    save_file({"w.weight": weight, "w.weight_scale_inv": scale}, tmp_path / "model.safetensors")
    config = {"model_type": "x", "quantization_config": {"weight_block_size": stated}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(read_only(tmp_path), VALUES * 2.0)


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_scales_of_rows_are_not_those_of_columns(read: Read, shape: tuple[int, ...]) -> None:
    square = VALUES[:, :8].float()
    scale = torch.arange(1.0, 9.0)
    found = read({"w.weight": square.to(torch.float8_e4m3fn), "w.weight_scale": scale.view(shape)})
    assert torch.equal(found, square * scale[:, None])
