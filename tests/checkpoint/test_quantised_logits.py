"""Quantised checkpoints that transformers can load without a GPU compute, pruned, what they did."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import Checkpoint
from tests.checkpoint.test_logits import assert_same
from tests.tiny_models import build

Chooser = Callable[..., Selection]
BLOCK = 16


Change = Callable[[dict[str, torch.Tensor]], None]


def quantised(path: Path, settings: dict[str, Any], change: Change) -> Path:
    """The checkpoint in `path`, a single file, with its tensors changed and settings stated."""
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"] = settings
    (path / "config.json").write_text(json.dumps(config))
    return path


def to_fp8(tensors: dict[str, torch.Tensor]) -> None:
    """Experts and most projections as FP8 with a scale for each block; 448 is FP8's largest."""
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        weight = tensors[name]
        if weight.shape[0] % BLOCK or weight.shape[1] % BLOCK:
            continue
        rows, columns = weight.shape[0] // BLOCK, weight.shape[1] // BLOCK
        blocks = weight.float().view(rows, BLOCK, columns, BLOCK)
        scale = blocks.abs().amax((1, 3), keepdim=True) / 448
        tensors[name] = (blocks / scale).view(weight.shape).to(torch.float8_e4m3fn)
        tensors[name + "_scale_inv"] = scale.view(rows, columns)


def to_mxfp4(tensors: dict[str, torch.Tensor]) -> None:
    """Experts of gpt-oss as 4-bit numbers, 32 of them with one exponent; values at random."""
    generator = torch.Generator().manual_seed(5)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        shape = (experts, outputs, inputs // 32, 16)
        blocks = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        scales = torch.randint(122, 126, shape[:3], generator=generator, dtype=torch.uint8)
        tensors.update({f"{name}_blocks": blocks, f"{name}_scales": scales})


@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v3"])
def test_fp8_in_blocks(choose: Chooser, tmp_path: Path, family: str) -> None:
    path = build(family, tmp_path / "m", shard_bytes=None, intermediate_size=32)
    settings = {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}
    quantised(path, settings, to_fp8)
    formats = {t.dtype for n, t in Checkpoint.open(path).tensors.items() if ".experts." in n}
    assert formats == {"F8_E4M3", "F32"}
    assert_same(family, path, choose(path), tmp_path / "out")


def test_mxfp4(choose: Chooser, tmp_path: Path) -> None:
    path = build("gpt_oss", tmp_path / "m", shard_bytes=None, intermediate_size=32)
    left_out = ["lm_head", "model.embed_tokens"]
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": left_out}
    quantised(path, settings, to_mxfp4)
    assert_same("gpt_oss", path, choose(path), tmp_path / "out")
