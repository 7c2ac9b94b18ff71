"""DeepSeek-V3 with the true shape of every tensor, a few layers deep: headers without weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
HEADS, NOPE, ROPE, VALUE = 128, 128, 64, 128
HIDDEN, RANK, QUERIES = 7168, 512, 1536


def deepseek_v3(path: Path, config: dict[str, Any], dense: int, moe: int) -> Path:
    """Write headers of `dense` + `moe` layers and a sparse file behind them."""
    path.mkdir()
    config = {**config, "num_hidden_layers": dense + moe, "first_k_dense_replace": dense}
    config["num_nextn_predict_layers"] = 0
    (path / "config.json").write_text(json.dumps(config))
    header, offset = {}, 0
    for name, dtype, shape in _tensors(dense, moe):
        size = SIZES[dtype]
        for each in shape:
            size *= each
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps(header).encode()
    with open(path / "model.safetensors", "wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + offset)
    return path


def _tensors(dense: int, moe: int) -> Iterator[tuple[str, str, list[int]]]:
    yield "model.embed_tokens.weight", "BF16", [129280, HIDDEN]
    yield "lm_head.weight", "BF16", [129280, HIDDEN]
    yield "model.norm.weight", "BF16", [HIDDEN]
    for layer in range(dense + moe):
        inside = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{inside}.{norm}.weight", "BF16", [HIDDEN]
        for name, shape in {
            "q_a_proj": [QUERIES, HIDDEN],
            "q_b_proj": [HEADS * (NOPE + ROPE), QUERIES],
            "kv_a_proj_with_mqa": [RANK + ROPE, HIDDEN],
            "kv_b_proj": [HEADS * (NOPE + VALUE), RANK],
            "o_proj": [HIDDEN, HEADS * VALUE],
        }.items():
            yield from _fp8(f"{inside}.self_attn.{name}", shape)
        yield f"{inside}.self_attn.q_a_layernorm.weight", "BF16", [QUERIES]
        yield f"{inside}.self_attn.kv_a_layernorm.weight", "BF16", [RANK]
        if layer < dense:
            yield from _mlp(f"{inside}.mlp", 18432)
            continue
        yield f"{inside}.mlp.gate.weight", "BF16", [256, HIDDEN]
        yield f"{inside}.mlp.gate.e_score_correction_bias", "F32", [256]
        yield from _mlp(f"{inside}.mlp.shared_experts", 2048)
        for expert in range(256):
            yield from _mlp(f"{inside}.mlp.experts.{expert}", 2048)


def _mlp(name: str, width: int) -> Iterator[tuple[str, str, list[int]]]:
    yield from _fp8(f"{name}.gate_proj", [width, HIDDEN])
    yield from _fp8(f"{name}.up_proj", [width, HIDDEN])
    yield from _fp8(f"{name}.down_proj", [HIDDEN, width])


def _fp8(name: str, shape: list[int]) -> Iterator[tuple[str, str, list[int]]]:
    yield f"{name}.weight", "F8_E4M3", shape
    yield f"{name}.weight_scale_inv", "F32", [-(-each // 128) for each in shape]
