"""Checkpoint -> transformers model, with every weight accounted for."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyep.errors import CheckpointError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(
    path: Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    settings: Mapping[tuple[str, ...], Any] | None = None,
) -> "PreTrainedModel":
    """Load a causal language model for inference.

    transformers reports weights that are missing, surplus or of the wrong shape as a warning.
    Here they are an error, except multi-token-prediction layers, which it loads on demand.

    Args:
        path: the checkpoint's directory.
        dtype: a name of `recipe.DTYPES`; ``"auto"`` takes the checkpoint's own.
        device: ``"auto"`` (the first accelerator, else the CPU) or a torch device.
        trust_remote_code: run Python code that lies in the checkpoint.
        settings: entries of the configuration, by their paths, that replace its own.

    Raises:
        CheckpointError: the checkpoint lacks weights, or has some that the model has no place for.
        UnsupportedModelError: transformers cannot build this model.
    """
    import torch
    from transformers import AutoConfig

    place = usable_device(device)
    with quietly():
        try:
            config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
            for (*sections, key), value in (settings or {}).items():
                setattr(reduce(getattr, sections, config), key, value)
            model, info = model_class(config, trust_remote_code).from_pretrained(
                path,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                **({"config": config} if settings else {}),
            )
        except (ValueError, KeyError, ImportError) as error:
            raise UnsupportedModelError(
                f"transformers cannot load {path}: {_first_line(error)}"
            ) from error
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"transformers cannot load {path}: {_first_line(error)}"
            ) from error
    surplus = [key for key in info["unexpected_keys"] if not is_mtp_key(key, model)]
    for what, keys in (
        ("lacks", list(info["missing_keys"])),
        ("has surplus", surplus),
        ("has weights of the wrong shape:", [str(key) for key in info["mismatched_keys"]]),
    ):
        if keys:
            some = ", ".join(sorted(keys)[:3])
            raise CheckpointError(f"{path} {what} {some} ({len(keys)} in all)")
    return model.to(place).eval()


def model_class(config: Any, trust_remote_code: bool = False) -> Any:
    """The class that a configuration names, so that models with further parts are loaded whole."""
    import transformers

    named = getattr(transformers, (config.architectures or ["none"])[0], None)
    of_its_own = trust_remote_code and getattr(config, "auto_map", None)
    if of_its_own or not isinstance(named, type):
        return transformers.AutoModelForCausalLM
    is_model = issubclass(named, transformers.PreTrainedModel)
    return named if is_model else transformers.AutoModelForCausalLM


def usable_device(name: str) -> Any:
    """The torch device that `name` means; ``"auto"`` is the first accelerator, else the CPU.

    Raises:
        UnsupportedModelError: there is no such device here.
    """
    import torch

    try:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        place = torch.device(name if name != "auto" else accelerator or "cpu")
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise UnsupportedModelError(
            f"the device {name!r} cannot be used: {_first_line(error)}; --device cpu always can"
        ) from None
    return place


def load_tokenizer(path: Path, *, trust_remote_code: bool = False) -> "PreTrainedTokenizerBase":
    """The checkpoint's tokenizer.

    Raises:
        CheckpointError: the directory has none that transformers can read.
    """
    from transformers import AutoTokenizer

    with quietly():
        try:
            return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise CheckpointError(
                f"{path} has no tokenizer that can be read: {_first_line(error)}"
            ) from error


def is_mtp_key(key: str, model: "PreTrainedModel") -> bool:
    """Whether a tensor belongs to a layer after the last one, or to an `mtp` module."""
    if re.search(r"(^|\.)mtp\.", key):
        return True
    layer = re.search(r"(^|\.)layers\.(\d+)\.", key)
    last = model.config.get_text_config().num_hidden_layers
    return layer is not None and int(layer.group(2)) >= last


def _first_line(error: Exception) -> str:
    """What another library's error says first; it often goes on for a page."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' bars, and without its reports, which are checked here instead."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
