"""Tiny random models of every supported family, saved as the released checkpoints lie on disk.

The models come from the real configuration classes of transformers; the files have the tensor
names, the configuration keys and the several shards of the checkpoints on the hub.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FAMILIES = (
    "deepseek_v2",
    "deepseek_v3",
    "glm4_moe",
    "gpt_oss",
    "mixtral",
    "olmoe",
    "qwen2_moe",
    "qwen3_moe",
)

# Families whose released checkpoints can hold MTP layers numbered after the last layer.
WITH_MTP = ("deepseek_v3", "glm4_moe")

SHARD_BYTES = 60_000


def build(
    family: str,
    path: str | Path,
    *,
    seed: int = 0,
    num_experts: int | None = None,
    top_k: int = 2,
    layers: int = 3,
    mtp: int = 0,
    dtype: str = "float32",
    shard_bytes: int | None = SHARD_BYTES,
    vocab_size: int = 64,
    **config: Any,
) -> Path:
    """Save a random model of `family` to the new directory `path`.

    Args:
        family: one of `FAMILIES`.
        path: where to save; made if it does not exist.
        seed: of the weights.
        num_experts: per layer; by default 8, and 16 for deepseek_v3, whose router has 4 groups
            of which a token uses 2.
        top_k: experts per token.
        layers: decoder layers; the first of deepseek and glm4_moe is dense.
        mtp: MTP layers (deepseek_v3, glm4_moe), random ones that transformers ignores.
        dtype: of the weights, in torch's words; correction biases stay float32.
        shard_bytes: how much one file holds; None saves a single ``model.safetensors``.
        vocab_size: tokens; no tokenizer is saved.
        config: further entries for the configuration class.

    Returns:
        `path`.
    """
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    path = Path(path)
    experts = num_experts or (16 if family == "deepseek_v3" else 8)
    settings = {**_common(layers, vocab_size), **_special(family, experts, top_k), **config}
    cfg = AutoConfig.for_model(family, **settings)
    transformers.utils.logging.set_verbosity_error()
    model = AutoModelForCausalLM.from_config(cfg, dtype=getattr(torch, dtype))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        named = [*model.named_parameters(), *model.named_buffers()]
        for name, tensor in named:
            if name.endswith("e_score_correction_bias"):
                _fill(tensor, 0.2, generator)  # added to sigmoid scores between 0 and 1
            elif tensor.ndim > 1:
                _fill(tensor, 1.5 * tensor.shape[-1] ** -0.5, generator)
            elif "bias" in name or "sinks" in name:
                _fill(tensor, 0.3, generator)
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch, max_shard_size="1TB")
        tensors = _load(Path(scratch) / "model.safetensors")
        saved = json.loads((Path(scratch) / "config.json").read_text())
        generation = (Path(scratch) / "generation_config.json").read_text()
    for number in range(mtp):
        tensors.update(_mtp_layer(tensors, layers + number, layers - 1, generator))
    path.mkdir(parents=True, exist_ok=True)
    _save(tensors, path, shard_bytes)
    text = json.dumps(_hub_config(family, saved, mtp, config), indent=2) + "\n"
    (path / "config.json").write_text(text)
    (path / "generation_config.json").write_text(generation)
    return path


def _common(layers: int, vocab_size: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 24,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
    }


def _special(family: str, experts: int, top_k: int) -> dict[str, Any]:
    mla = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
    mla |= {"v_head_dim": 8}
    routed = {"n_routed_experts": experts, "moe_intermediate_size": 16, "n_shared_experts": 1}
    routed |= {"first_k_dense_replace": 1}
    special: dict[str, dict[str, Any]] = {
        "deepseek_v2": {**mla, **routed, "routed_scaling_factor": 1.5},
        "deepseek_v3": {**mla, **routed, "n_group": 4, "topk_group": 2},
        "glm4_moe": {**routed, "head_dim": 8, "num_key_value_heads": 2},
        "gpt_oss": {"num_local_experts": experts, "head_dim": 8, "sliding_window": 16},
        "mixtral": {"num_local_experts": experts},
        "olmoe": {"num_experts": experts},
        "qwen2_moe": {
            "num_experts": experts,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
        "qwen3_moe": {
            "num_experts": experts,
            "moe_intermediate_size": 16,
            "head_dim": 8,
            "norm_topk_prob": True,
        },
    }
    return {"num_experts_per_tok": top_k, **special[family]}


def _hub_config(
    family: str, saved: dict[str, Any], mtp: int, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration as released checkpoints have it, where transformers saves another."""
    if family == "qwen3_moe":  # transformers 5 saves the count under its other name
        renamed = {"num_local_experts": "num_experts"}
        saved = {renamed.get(key, key): value for key, value in saved.items()}
    if family in ("deepseek_v3", "glm4_moe"):
        saved["num_nextn_predict_layers"] = mtp
        # vLLM and llama.cpp route by these; transformers does not write them.
        saved |= {"topk_method": "noaux_tc", "scoring_func": "sigmoid"}
    if family == "gpt_oss":
        saved["experts_per_token"] = saved["num_experts_per_tok"]
    return {**saved, **{key: value for key, value in given.items() if key not in saved}}


def _fill(tensor: Any, spread: float, generator: Any) -> None:
    import torch

    tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)


def _mtp_layer(tensors: Mapping[str, Any], index: int, last: int, generator: Any) -> dict[str, Any]:
    """A layer as DeepSeek-V3 and GLM-4.5 have it behind the last one, with random weights."""
    import torch

    prefix, new = f"model.layers.{last}.", f"model.layers.{index}."
    layer = {
        new + name.removeprefix(prefix): torch.randn(tensor.shape, generator=generator).to(
            tensor.dtype
        )
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    embedding = tensors["model.embed_tokens.weight"]
    hidden = embedding.shape[1]
    for name in ("enorm", "hnorm", "shared_head.norm"):
        layer[f"{new}{name}.weight"] = torch.ones(hidden, dtype=embedding.dtype)
    layer[f"{new}eh_proj.weight"] = torch.randn(hidden, 2 * hidden, generator=generator).to(
        embedding.dtype
    )
    layer[f"{new}embed_tokens.weight"] = embedding.clone()
    layer[f"{new}shared_head.head.weight"] = tensors["lm_head.weight"].clone()
    return layer


def _load(file: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(file))


def _save(tensors: Mapping[str, Any], path: Path, shard_bytes: int | None) -> None:
    from safetensors.torch import save_file

    if shard_bytes is None:
        save_file(dict(tensors), path / "model.safetensors", metadata={"format": "pt"})
        return
    shards: list[dict[str, Any]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, path / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
