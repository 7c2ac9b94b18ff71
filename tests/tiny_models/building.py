"""One tiny checkpoint: a random model of transformers, under the names of the release."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.tiny_models.more import named_tensors, with_more
from tests.tiny_models.random_model import random_model, saved_files
from tests.tiny_models.renaming import renamed
from tests.tiny_models.settings import Numbers, Settings, load_settings, put
from tests.tiny_models.shards import save

SHARD_BYTES = 60_000


def build(
    family: str,
    path: str | Path,
    *,
    seed: int = 0,
    num_experts: int | None = None,
    top_k: int | None = None,
    layers: int | None = None,
    mtp: int = 0,
    dtype: str = "float32",
    shard_bytes: int | None = SHARD_BYTES,
    vocab_size: int = 64,
    **config: Any,
) -> Path:
    """Save a random model of `family` to the new directory `path`.

    Args:
        family: the name of a settings file, see `tests.tiny_models.settings`.
        path: where to save; made if it does not exist.
        seed: of the weights.
        num_experts: per layer; by default what the settings say, mostly 8.
        top_k: experts per token; by default what the settings say, mostly 2.
        layers: decoder layers; by default what the settings say, mostly 3, of which the first is
            dense where the family has dense ones.
        mtp: MTP layers, random ones that transformers ignores; for families with ``[mtp]``.
        dtype: of the weights, in torch's words; correction biases stay float32.
        shard_bytes: how much one file holds; None saves a single ``model.safetensors``.
        vocab_size: tokens; no tokenizer is saved.
        config: further entries for the section of the configuration with the experts.

    Returns:
        `path`.
    """
    import torch

    settings = load_settings()[family]
    numbers = Numbers(
        experts=num_experts or settings.num_experts,
        top_k=top_k or settings.default_top_k,
        layers=layers or settings.layers,
        vocab=vocab_size,
    )
    generator = torch.Generator().manual_seed(seed)
    model = random_model(settings, numbers, config, dtype, generator)
    tensors, saved, generation = saved_files(model, settings.source)
    width = model.config.get_text_config().hidden_size
    sizes = {"E": numbers.experts, "H": width, "V": vocab_size}
    body = with_more(renamed(tensors, settings.tensors), settings.more, sizes, generator)
    tensors = {**body, **_mtp_tensors(settings, numbers, mtp, tensors, body, sizes, generator)}
    tensors |= named_tensors(settings.further, sizes, getattr(torch, dtype), generator)
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    save(tensors, path, shard_bytes)
    released = _released(settings, saved, numbers, mtp, config)
    (path / "config.json").write_text(json.dumps(released, indent=2) + "\n")
    if generation is not None:
        (path / "generation_config.json").write_text(generation)
    return path


def _mtp_tensors(
    settings: Settings,
    numbers: Numbers,
    mtp: int,
    saved: Mapping[str, Any],
    body: Mapping[str, Any],
    sizes: Mapping[str, int],
    generator: Any,
) -> dict[str, Any]:
    """`mtp` layers under their released names, for a model that was `saved` and is released as
    `body`."""
    layers = settings.mtp
    if not mtp:
        return {}
    assert layers is not None, f"{settings.name} has no MTP layers"
    source = saved if layers.saved else body
    tensors: dict[str, Any] = {}
    for number in range(mtp):
        tensors |= layers.tensors(number, numbers.layers, source, sizes, generator)
    return renamed(tensors, settings.tensors) if layers.saved else tensors


def _released(
    settings: Settings,
    saved: Mapping[str, Any],
    numbers: Numbers,
    mtp: int,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """`config.json` as the release has it; also what was given and transformers did not save."""
    released = settings.hub.released({**saved, "model_type": settings.release}, numbers)
    if settings.mtp is not None and settings.mtp.count:
        put(released, settings.mtp.count, mtp)
    section = released
    for table in settings.released_section:
        section = section[table]
    section |= {key: value for key, value in given.items() if key not in section}
    return released
