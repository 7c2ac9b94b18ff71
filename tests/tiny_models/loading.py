"""A tiny checkpoint in transformers, complete."""

from pathlib import Path
from typing import Any

from tests.tiny_models.settings import Settings, load_settings


def load(family: str, path: str | Path, **config: Any) -> Any:
    """The module that computes the logits, in float32, for evaluation.

    Args:
        family: the name of a settings file.
        path: the checkpoint, as released or pruned.
        config: further entries for the configuration.

    Raises:
        AssertionError: transformers misses tensors, or does not know some beside those of MTP
            layers and of ``[further]``.
    """
    import torch
    import transformers

    settings = load_settings()[family]
    model, info = getattr(transformers, settings.auto).from_pretrained(
        path, dtype=torch.float32, output_loading_info=True, **config
    )
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert not [key for key in info["unexpected_keys"] if not _is_extra(settings, key)]
    return model.get_submodule(settings.part).eval()


def _is_extra(settings: Settings, key: str) -> bool:
    # transformers names what it does not know after its own modules: another prefix.
    if any(key.endswith(name.partition(".")[2]) for name in settings.further):
        return True
    mtp = settings.mtp
    if mtp is None:
        return False
    return key in mtp.further or key.startswith(mtp.name.format(i=0, layer=settings.layers))
