"""Checkpoints in the forms of releases, of any size, and random selections for them."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from easyep.architectures.spec import find_architecture
from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.headers import build_header, bytes_of
from easyep.checkpoint.layout import resolve

Form = tuple[str, tuple[int, ...]]

VOCABULARY, HEAD = 8192, 128


def deepseek(layers: int, experts: int, hidden: int, inner: int) -> dict[str, Form]:
    """Names, types and shapes of a block-FP8 DeepSeek-V3, attention simplified."""
    tensors: dict[str, Form] = {"model.embed_tokens.weight": ("BF16", (1024, hidden))}

    def quantised(name: str, rows: int, columns: int) -> None:
        tensors[f"{name}.weight"] = ("F8_E4M3", (rows, columns))
        tensors[f"{name}.weight_scale_inv"] = ("F32", (-(-rows // 128), -(-columns // 128)))

    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for part in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"):
            quantised(f"{prefix}self_attn.{part}", 576, hidden)
        if layer < 3:
            quantised(f"{prefix}mlp.up_proj", inner, hidden)
            continue
        tensors[f"{prefix}mlp.gate.weight"] = ("BF16", (experts, hidden))
        tensors[f"{prefix}mlp.gate.e_score_correction_bias"] = ("F32", (experts,))
        for expert in range(experts):
            for part in ("gate_proj", "up_proj", "down_proj"):
                rows, columns = (hidden, inner) if part == "down_proj" else (inner, hidden)
                quantised(f"{prefix}mlp.experts.{expert}.{part}", rows, columns)
    tensors["lm_head.weight"] = ("BF16", (1024, hidden))
    return tensors


def deepseek_config(layers: int, experts: int) -> dict[str, Any]:
    """As much of DeepSeek-V3's configuration as rewriting looks at."""
    return {
        "model_type": "deepseek_v3",
        "num_hidden_layers": layers,
        "n_routed_experts": experts,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "first_k_dense_replace": 3,
        "num_nextn_predict_layers": 0,
    }


def qwen3_moe(
    layers: int,
    experts: int,
    hidden: int,
    inner: int,
    *,
    vocabulary: int = VOCABULARY,
    head: int = HEAD,
    kv_heads: int = 2,
) -> dict[str, Form]:
    """Names, types and shapes of a Qwen3-MoE in BF16, which transformers runs."""
    tensors: dict[str, Form] = {}

    def weight(name: str, *shape: int) -> None:
        tensors[f"{name}.weight"] = ("BF16", shape)

    weight("model.embed_tokens", vocabulary, hidden)
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weight(prefix + norm, hidden)
        for norm in ("q_norm", "k_norm"):
            weight(f"{prefix}self_attn.{norm}", head)
        weight(f"{prefix}self_attn.q_proj", hidden, hidden)
        for part in ("k_proj", "v_proj"):
            weight(f"{prefix}self_attn.{part}", kv_heads * head, hidden)
        weight(f"{prefix}self_attn.o_proj", hidden, hidden)
        weight(f"{prefix}mlp.gate", experts, hidden)
        for expert in range(experts):
            for part in ("gate_proj", "up_proj", "down_proj"):
                rows, columns = (hidden, inner) if part == "down_proj" else (inner, hidden)
                weight(f"{prefix}mlp.experts.{expert}.{part}", rows, columns)
    weight("model.norm", hidden)
    weight("lm_head", vocabulary, hidden)
    return tensors


def qwen3_moe_config(
    layers: int,
    experts: int,
    hidden: int,
    inner: int,
    *,
    vocabulary: int = VOCABULARY,
    head: int = HEAD,
    kv_heads: int = 2,
) -> dict[str, Any]:
    """The configuration of such a model."""
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "dtype": "bfloat16",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "moe_intermediate_size": inner,
        "num_experts": experts,
        "num_experts_per_tok": 8,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // head,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
    }


def in_files(tensors: dict[str, Form], limit: float) -> dict[str, dict[str, Form]]:
    """File -> its tensors, in their order; a file ends with the one that passes `limit` bytes."""
    shards: list[dict[str, Form]] = [{}]
    size = 0
    for name, form in tensors.items():
        if size > limit:
            shards.append({})
            size = 0
        shards[-1][name] = form
        size += bytes_of(*form)
    count = len(shards)
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    return dict(zip(names, shards, strict=True))


def write_index(path: Path, files: dict[str, dict[str, Form]], config: dict[str, Any]) -> int:
    """Write what says where each tensor is, and the configuration; the bytes of all tensors."""
    total = sum(bytes_of(*form) for shard in files.values() for form in shard.values())
    weight_map = {name: file for file, shard in files.items() for name in shard}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "config.json").write_text(json.dumps(config, indent=2))
    return total


def write(
    path: Path,
    tensors: dict[str, Form],
    config: dict[str, Any],
    *,
    shard_bytes: int = 64_000_000,
    data: bytes = b"",
) -> None:
    """A checkpoint in at most some 163 shards that repeat `data`; sparse without any."""
    total = sum(bytes_of(*form) for form in tensors.values())
    files = in_files(tensors, max(shard_bytes, total // 163))
    for file, shard in files.items():
        # As the reference writer orders them: wide types first, then by name.
        order = sorted(shard, key=lambda name: (-bytes_of(shard[name][0], (1,)), name))
        with open(path / file, "wb") as out:
            out.write(build_header(((n, *shard[n]) for n in order), {"format": "pt"}))
            left = sum(bytes_of(*form) for form in shard.values())
            if not data:
                out.truncate(out.tell() + left)
                continue
            while left:
                left -= out.write(data[: min(left, len(data))])
    write_index(path, files, config)


def random_bytes() -> bytes:
    """A MiB of them."""
    return random.Random(0).randbytes(1 << 20)


def small_numbers() -> bytes:
    """Normally distributed BF16 numbers of spread 0.02: as odd a count as to differ by tensor."""
    draw = np.random.default_rng(0).standard_normal(524_287).astype(np.float32) * 0.02
    return (draw.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def selection(path: Path) -> Selection:
    """Half of the experts, at random in each group."""
    checkpoint = Checkpoint.open(path)
    layout = resolve(checkpoint, find_architecture(checkpoint.config))
    router, rng = layout.router, random.Random(1)
    size = router.num_experts // router.n_group

    def experts() -> tuple[int, ...]:
        blocks = (range(g * size, (g + 1) * size) for g in range(router.n_group))
        return tuple(sorted(e for block in blocks for e in rng.sample(block, size // 2)))

    return Selection(
        model=checkpoint.identity("benchmark"),
        num_experts=router.num_experts,
        keep=router.num_experts // 2,
        groups="balanced",
        criterion="random",
        layers={layer: experts() for layer in layout.moe_layers},
    )
