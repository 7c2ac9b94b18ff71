"""Checkpoints with random weights whose activations stay of their size, and demonstrations."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import synthetic

from easyep.checkpoint.headers import build_header, bytes_of

HIDDEN, EXPERTS, INNER, VOCABULARY = 7168, 256, 2048, 129_280
QWEN_VOCABULARY = 32_000
Form = synthetic.Form


def _deepseek_config(moe_layers: int) -> dict[str, Any]:
    """DeepSeek-V3's configuration with fewer layers."""
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "dtype": "bfloat16",
        "hidden_size": HIDDEN,
        "intermediate_size": 18_432,
        "moe_intermediate_size": INNER,
        "n_routed_experts": EXPERTS,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "first_k_dense_replace": 1,
        "num_hidden_layers": 1 + moe_layers,
        "num_nextn_predict_layers": 0,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 163_840,
        "rope_theta": 10_000,
        "tie_word_embeddings": False,
        "quantization_config": {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [128, 128],
        },
    }


def deepseek_v3(moe_layers: int) -> tuple[dict[str, Any], dict[str, Form]]:
    """DeepSeek-V3's configuration with fewer layers, and every tensor as released files have it."""
    found: dict[str, Form] = {}

    def fp8(name: str, rows: int, columns: int) -> None:
        found[f"{name}.weight"] = ("F8_E4M3", (rows, columns))
        found[f"{name}.weight_scale_inv"] = ("F32", (-(-rows // 128), -(-columns // 128)))

    def mlp(name: str, inner: int) -> None:
        fp8(f"{name}.gate_proj", inner, HIDDEN)
        fp8(f"{name}.up_proj", inner, HIDDEN)
        fp8(f"{name}.down_proj", HIDDEN, inner)

    found["model.embed_tokens.weight"] = ("BF16", (VOCABULARY, HIDDEN))
    for layer in range(1 + moe_layers):
        prefix = f"model.layers.{layer}."
        fp8(f"{prefix}self_attn.q_a_proj", 1536, HIDDEN)
        fp8(f"{prefix}self_attn.q_b_proj", 128 * 192, 1536)
        fp8(f"{prefix}self_attn.kv_a_proj_with_mqa", 576, HIDDEN)
        fp8(f"{prefix}self_attn.kv_b_proj", 128 * 256, 512)
        fp8(f"{prefix}self_attn.o_proj", HIDDEN, 128 * 128)
        for norm, size in (("q_a_layernorm", 1536), ("kv_a_layernorm", 512)):
            found[f"{prefix}self_attn.{norm}.weight"] = ("BF16", (size,))
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{prefix}{norm}.weight"] = ("BF16", (HIDDEN,))
        if layer == 0:
            mlp(f"{prefix}mlp", 18_432)
            continue
        found[f"{prefix}mlp.gate.weight"] = ("BF16", (EXPERTS, HIDDEN))
        found[f"{prefix}mlp.gate.e_score_correction_bias"] = ("F32", (EXPERTS,))
        mlp(f"{prefix}mlp.shared_experts", INNER)
        for expert in range(EXPERTS):
            mlp(f"{prefix}mlp.experts.{expert}", INNER)
    found["model.norm.weight"] = ("BF16", (HIDDEN,))
    found["lm_head.weight"] = ("BF16", (VOCABULARY, HIDDEN))
    return _deepseek_config(moe_layers), found


def qwen3_moe(
    layers: int, hidden: int = 1024, inner: int = 512, experts: int = 64
) -> tuple[dict[str, Any], dict[str, Form]]:
    """A Qwen3-MoE in BF16: its configuration and its tensors."""
    numbers = {"layers": layers, "experts": experts, "hidden": hidden, "inner": inner}
    numbers |= {"vocabulary": QWEN_VOCABULARY, "head": 32, "kv_heads": hidden // 128}
    config = synthetic.qwen3_moe_config(**numbers)
    return {**config, "max_position_embeddings": 4096}, synthetic.qwen3_moe(**numbers)


def content(name: str, form: Form, draw: np.random.Generator) -> Iterator[bytes]:
    """Random bytes that make a model whose activations neither vanish nor explode."""
    dtype, shape = form
    count = int(np.prod(shape))
    if dtype == "F8_E4M3":  # every code but those that are no number
        codes = np.delete(np.arange(256, dtype=np.uint8), [0x7F, 0xFF])
        piece = codes[draw.integers(0, len(codes), 1 << 22)].tobytes()
        for done in range(0, count, len(piece)):
            yield piece[: count - done]
    elif name.endswith("weight_scale_inv"):  # the codes have a spread of about 95
        yield np.full(shape, 1 / (95 * 64), np.float32).tobytes()
    elif dtype == "F32":
        yield (draw.standard_normal(shape) * 0.1).astype(np.float32).tobytes()
    elif len(shape) == 1:
        yield np.full(shape, 0x3F80, np.uint16).tobytes()  # ones
    else:
        rows = (draw.standard_normal((64, shape[1])) * 0.02).astype(np.float32)
        piece = (rows.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        size = bytes_of(*form)
        for done in range(0, size, len(piece)):
            yield piece[: size - done]


def write(
    folder: Path,
    config: dict[str, Any],
    tensors: dict[str, Form],
    shard_bytes: int = 4_000_000_000,
) -> int:
    """Write a checkpoint; its bytes. What was written is in no page cache then."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    files = synthetic.in_files(tensors, shard_bytes)
    for file, shard in files.items():
        order = sorted(shard, key=lambda name: -bytes_of(shard[name][0], (1,)))
        with open(folder / file, "wb") as out:
            out.write(build_header(((n, *shard[n]) for n in order), {"format": "pt"}))
            for name in order:
                for piece in content(name, shard[name], draw):
                    out.write(piece)
            out.flush()
            os.fsync(out.fileno())
            os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return synthetic.write_index(folder, files, config)


def write_demos(path: Path, demos: int, tokens: int) -> None:
    """Demonstrations of random tokens that every model here knows."""
    draw = np.random.default_rng(1)
    with open(path, "w") as out:
        for _ in range(demos):
            ids = draw.integers(0, QWEN_VOCABULARY, tokens).tolist()
            out.write(json.dumps({"input_ids": ids, "response_start": tokens // 2}) + "\n")
