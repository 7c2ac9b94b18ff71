"""A random model of transformers, with a router that uses all of its experts."""

import json
import re
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from easyep.architectures.releases import is_older
from easyep.errors import UnsupportedModelError
from easyep.loading import check_release
from tests.tiny_models.settings import EXPERT_IDS, Numbers, Settings


def random_model(
    family: Settings, numbers: Numbers, given: Mapping[str, Any], dtype: str, generator: Any
) -> Any:
    """A model of `family` whose matrices, biases and tables of experts are random.

    Where only a later transformers has the family, the test is skipped.
    """
    import torch
    import transformers

    skip_if_newer(family)
    transformers.utils.logging.set_verbosity_error()
    cfg = transformers.AutoConfig.for_model(family.build, **family.configuration(numbers, given))
    with torch.random.fork_rng():
        torch.manual_seed(generator.initial_seed())  # for what is not filled below
        model = getattr(transformers, family.auto).from_config(cfg, dtype=getattr(torch, dtype))
    with torch.no_grad():
        saved = model.state_dict().keys()
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            spread = _spread(family, name, tensor)
            if name not in saved or spread is None:
                continue
            if spread == EXPERT_IDS:
                tensor.copy_(_expert_ids(tensor.shape, numbers.experts, generator))
            else:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)
    return model


def skip_if_newer(family: Settings) -> None:
    """Skip a test of a family that only a later transformers has.

    The one that `constraints.txt` names has all: `tests.architectures.test_releases`.
    """
    try:
        check_release({"model_type": family.build})
    except UnsupportedModelError as error:
        pytest.skip(str(error).partition(";")[0])


def skip_without_mtp(family: str) -> None:
    """Skip a test of MTP layers that only a later transformers knows."""
    if family == "mellum" and is_older(version("transformers"), "5.20"):
        pytest.skip("this transformers does not know Mellum's MTP layers, 5.20 is the first")


def saved_files(model: Any, source: str) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """Tensors by name, `config.json` and, where there is one, the text of the generation config.

    Args:
        source: ``save_pretrained`` or ``state_dict``: whose names the tensors have.
    """
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if source == "state_dict":
            tensors = _distinct(model.state_dict())
            model.config.save_pretrained(scratch)
            if model.can_generate():
                model.generation_config.save_pretrained(scratch)
        else:
            model.save_pretrained(scratch, max_shard_size="1TB")
            tensors = dict(load_file(scratch / "model.safetensors"))
        config = json.loads((scratch / "config.json").read_text())
        generation = scratch / "generation_config.json"
        return tensors, config, generation.read_text() if generation.exists() else None


def _spread(family: Settings, name: str, tensor: Any) -> float | str | None:
    """The standard deviation of a tensor's values; None leaves it as transformers made it."""
    for pattern, spread in family.fill.items():
        if re.search(pattern, name):
            return spread
    if not tensor.is_floating_point():
        return None
    if name.endswith("e_score_correction_bias"):
        return 0.2  # added to sigmoid scores between 0 and 1
    if tensor.ndim > 1:
        return float(1.5 * tensor.shape[-1] ** -0.5)
    if "bias" in name or "sinks" in name:
        return 0.3
    return None


def _expert_ids(shape: tuple[int, ...], experts: int, generator: Any) -> Any:
    """Rows of different expert ids."""
    import torch

    scores = torch.rand(shape[0], experts, generator=generator)
    return scores.argsort(dim=1)[:, : shape[1]]


def _distinct(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Without the second name of a tied tensor."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            out[name] = tensor.contiguous()
    return out
