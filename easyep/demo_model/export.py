"""Writes the trained network as a checkpoint in the layout of the Hugging Face hub.

That is: one tensor per expert and projection, BF16 (the correction biases float32), the MTP layer
numbered after the last layer with its own copies of embedding and head, shards and an index.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from easyep.demo_model.architecture import Network, configuration

BIAS = "e_score_correction_bias"
SHARDS = 3
MTP_NAMES = {
    "enorm.weight": "enorm.weight",
    "hnorm.weight": "hnorm.weight",
    "eh_proj.weight": "eh_proj.weight",
    "norm.weight": "shared_head.norm.weight",
}


def hub_tensors(network: Network) -> dict[str, torch.Tensor]:
    """Every tensor under its name on the hub."""
    main = network.main.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    for name, value in main.items():
        tensors |= _unfused(name, value)
    prefix = f"model.layers.{network.main.config.num_hidden_layers}."
    for name, value in network.mtp.state_dict().items():
        hub_name = MTP_NAMES.get(name) or name.removeprefix("block.")
        tensors |= _unfused(prefix + hub_name, value)
    tensors[prefix + "embed_tokens.weight"] = main["model.embed_tokens.weight"]
    tensors[prefix + "shared_head.head.weight"] = main["lm_head.weight"]
    return {
        # Copies: safetensors refuses tensors that share memory.
        name: value.detach()
        .to("cpu", torch.float32 if name.endswith(BIAS) else torch.bfloat16)
        .clone()
        for name, value in tensors.items()
    }


def _unfused(name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    """transformers keeps experts in [E, 2I, H] and [E, H, I]; the hub has one matrix each."""
    prefix, _, last = name.rpartition(".")
    if last == "gate_up_proj":
        gates, ups = value.chunk(2, dim=1)
        return {
            f"{prefix}.{expert}.{kind}.weight": matrix
            for expert in range(value.shape[0])
            for kind, matrix in (("gate_proj", gates[expert]), ("up_proj", ups[expert]))
        }
    if last == "down_proj":
        return {f"{prefix}.{e}.down_proj.weight": value[e] for e in range(value.shape[0])}
    return {name: value}


def _shards(tensors: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Consecutive parts of about equal size, in the order of the layers."""
    limit = sum(t.nbytes for t in tensors.values()) / SHARDS
    shards: list[dict[str, torch.Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if filled >= limit * len(shards):
            shards.append({})
        shards[-1][name] = tensor
        filled += tensor.nbytes
    return shards


def export(network: Network, directory: Path, size: str = "demo") -> None:
    """Writes weights, index and configurations; the tokenizer's files are written elsewhere."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = hub_tensors(network)
    shards = _shards(tensors)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, directory / file, metadata={"format": "pt"})
        (directory / file).chmod(0o644)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    _write_json(directory / "model.safetensors.index.json", index)
    config = configuration(size)
    _write_json(directory / "config.json", config.to_dict())
    generation = {
        "do_sample": False,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }
    _write_json(directory / "generation_config.json", generation)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
