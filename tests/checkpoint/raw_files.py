"""Checkpoints written by hand, without any library, so that they can be as wrong as needed."""

import json
import random
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

BYTES = {"F32": 4, "BF16": 2, "F8_E4M3": 1, "F8_E8M0": 1, "U8": 1, "I32": 4, "I64": 8, "I8": 1}
Raw = tuple[str, tuple[int, ...], bytes]


def tensor(dtype: str, *shape: int, seed: int = 0) -> Raw:
    """A tensor of random bytes."""
    return dtype, shape, random.Random(seed).randbytes(prod(shape) * BYTES[dtype])


def write_file(path: Path, tensors: Mapping[str, Raw], metadata: Any = None) -> None:
    """A safetensors file with the tensors in the given order."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        end = len(data) + len(content)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), end]}
        data += content
    write_header(path, json.dumps(header).encode(), data)


def write_header(path: Path, header: bytes, data: bytes) -> None:
    """A file with any header, right or wrong."""
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def read_file(path: Path) -> dict[str, Raw]:
    """What a valid file holds."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    return {
        name: (
            entry["dtype"],
            tuple(entry["shape"]),
            content[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
        )
        for name, entry in header.items()
    }


def read_all(path: Path) -> dict[str, Raw]:
    """The tensors of all files of a checkpoint."""
    tensors: dict[str, Raw] = {}
    for file in sorted(path.glob("*.safetensors")):
        tensors.update(read_file(file))
    return tensors


def write_checkpoint(path: Path, config: Mapping[str, Any], *shards: Mapping[str, Raw]) -> Path:
    """A sharded checkpoint with an index."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config, indent=2))
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_file(path / name, shard, {"format": "pt"})
        weight_map.update(dict.fromkeys(shard, name))
    index = {"metadata": {}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def gpt_oss_mxfp4(path: Path, *, experts: int = 8, layers: int = 2) -> Path:
    """A gpt-oss checkpoint with the names, types and shapes of the released MXFP4 files."""
    hidden, inner = 64, 32
    body: dict[str, Raw] = {"model.embed_tokens.weight": tensor("BF16", 16, hidden)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        mlp: dict[str, tuple[Any, ...]] = {
            "experts.gate_up_proj_blocks": ("U8", experts, 2 * inner, hidden // 32, 16),
            "experts.gate_up_proj_scales": ("U8", experts, 2 * inner, hidden // 32),
            "experts.gate_up_proj_bias": ("BF16", experts, 2 * inner),
            "experts.down_proj_blocks": ("U8", experts, hidden, inner // 32, 16),
            "experts.down_proj_scales": ("U8", experts, hidden, inner // 32),
            "experts.down_proj_bias": ("BF16", experts, hidden),
            "router.weight": ("BF16", experts, hidden),
            "router.bias": ("BF16", experts),
        }
        for number, (name, (dtype, *shape)) in enumerate(mlp.items()):
            body[f"{prefix}mlp.{name}"] = tensor(dtype, *shape, seed=100 * layer + number)
        body[f"{prefix}self_attn.sinks"] = tensor("BF16", 4)
    config = {
        "model_type": "gpt_oss",
        "num_hidden_layers": layers,
        "num_local_experts": experts,
        "num_experts_per_tok": 2,
        "experts_per_token": 2,
        "quantization_config": {
            "modules_to_not_convert": ["model.layers.*.mlp.router"],
            "quant_method": "mxfp4",
        },
    }
    names = list(body)
    cut = len(names) // 2
    return write_checkpoint(
        path, config, {n: body[n] for n in names[:cut]}, {n: body[n] for n in names[cut:]}
    )


def deepseek_fp8(path: Path, *, experts: int = 8, ignore: list[str] | None = None) -> Path:
    """Two layers of a DeepSeek-V3 checkpoint in block FP8: weights, scales, 576-row projection."""
    hidden, inner = 128, 64
    first: dict[str, Raw] = {"model.embed_tokens.weight": tensor("BF16", 16, hidden)}
    second: dict[str, Raw] = {}
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        shard = first if layer == 0 else second
        shard[f"{prefix}self_attn.kv_a_proj_with_mqa.weight"] = tensor("F8_E4M3", 576, hidden)
        shard[f"{prefix}self_attn.kv_a_proj_with_mqa.weight_scale_inv"] = tensor("F32", 5, 1)
        for expert in range(experts):
            for name in ("down_proj", "gate_proj", "up_proj"):
                rows, columns = (hidden, inner) if name == "down_proj" else (inner, hidden)
                key = f"{prefix}mlp.experts.{expert}.{name}.weight"
                seed = 1000 * layer + 10 * expert + len(name)
                shard[key] = tensor("F8_E4M3", rows, columns, seed=seed)
                # As the writer of the released files does: scales lie apart from the weights.
                second[f"{key}_scale_inv"] = tensor("F32", 1, 1, seed=seed + 1)
        shard[f"{prefix}mlp.gate.weight"] = tensor("BF16", experts, hidden, seed=layer)
        shard[f"{prefix}mlp.gate.e_score_correction_bias"] = tensor("F32", experts, seed=layer)
        shard[f"{prefix}mlp.shared_experts.up_proj.weight"] = tensor("F8_E4M3", inner, hidden)
    config = {
        "model_type": "deepseek_v3",
        "num_hidden_layers": 2,
        "n_routed_experts": experts,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 0,
        "num_nextn_predict_layers": 0,
        "topk_method": "noaux_tc",
        "quantization_config": {
            "quant_method": "fp8",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": ignore or [],
        },
    }
    return write_checkpoint(path, config, first, second)
