"""Tensors -> a directory of safetensors files, as a hub repository has them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def save(tensors: Mapping[str, Any], path: Path, shard_bytes: int | None) -> None:
    """Save `tensors` in files of at most `shard_bytes` with an index; None: in a single file."""
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
