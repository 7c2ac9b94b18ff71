"""Checkpoint -> transformers model, with every weight accounted for."""

import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyep.architectures.releases import is_older
from easyep.architectures.spec import first_release
from easyep.artifacts.files import read_json
from easyep.errors import CheckpointError, EasyEPError, UnsupportedModelError, first_line
from easyep.memory_limits import Limits
from easyep.panics import panics_as_errors
from easyep.passing_folder import PassingFolder
from easyep.placing import placement, usable_device
from easyep.tokenizer_files import check_tokenizer_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# What transformers raises of a configuration that says what no model has.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError)


def check_release(config: Mapping[str, Any], trust_remote_code: bool = False) -> None:
    """See that the installed transformers is new enough for a model.

    Args:
        config: its `config.json`.
        trust_remote_code: Python code that comes with it is run instead of transformers' own.

    Raises:
        UnsupportedModelError: only a later release runs models of this type.
    """
    needed = first_release(config)
    if needed is None or (trust_remote_code and config.get("auto_map")):
        return
    (kind, release), installed = needed, metadata.version("transformers")
    if is_older(installed, release):
        raise UnsupportedModelError(
            f"transformers {installed} cannot run {kind}: {release} is the first that can; pip "
            f"install 'transformers>={release}', in an environment of its own if an engine such as "
            "vLLM or SGLang wants an older one here (easyep inspect, select, rewrite and verify "
            "need no transformers)"
        )


def load_model(
    path: Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    max_memory: Limits | None = None,
    trust_remote_code: bool = False,
    settings: Mapping[tuple[str, ...], Any] | None = None,
) -> "PreTrainedModel":
    """Load a causal language model for inference.

    Where it does not go onto one device, accelerate places it over this process's accelerators,
    then in main memory, then on the disk for temporary files.

    transformers reports weights that are missing, surplus or of the wrong shape as a warning.
    Here they are an error, except multi-token-prediction layers, which it loads on demand.

    Args:
        path: the checkpoint's directory.
        dtype: a name of `recipe.DTYPES`; ``"auto"`` takes the checkpoint's own.
        device: ``"auto"`` (the accelerators, else the CPU) or a torch device.
        max_memory: bytes that it may take there; None means what is free.
        trust_remote_code: run Python code that lies in the checkpoint.
        settings: entries of the configuration, by their paths, that replace its own.

    Raises:
        CheckpointError: the checkpoint lacks weights, or has some that the model has no place for.
        UnsupportedModelError: transformers cannot build this model.
    """
    import torch
    from transformers import AutoConfig

    check_release(_config(path), trust_remote_code)
    spread = placement(device, max_memory)
    offload = PassingFolder() if spread else None
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
                **({**spread, "offload_folder": offload.path} if spread and offload else {}),
            )
        except (*UNREADABLE, ImportError) as error:
            raise UnsupportedModelError(
                f"transformers cannot load {path}: {why_not(error)}"
            ) from error
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"transformers cannot load {path}: {first_line(error)}"
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
    if offload is None:
        return model.to(usable_device(device)).eval()
    weakref.finalize(model, offload.remove)
    return model.eval()


def model_class(config: Any, trust_remote_code: bool = False) -> Any:
    """The class that a configuration names, so that models with further parts are loaded whole."""
    import transformers

    named = getattr(transformers, (config.architectures or ["none"])[0], None)
    of_its_own = trust_remote_code and getattr(config, "auto_map", None)
    if of_its_own or not isinstance(named, type):
        return transformers.AutoModelForCausalLM
    is_model = issubclass(named, transformers.PreTrainedModel)
    return named if is_model else transformers.AutoModelForCausalLM


def load_tokenizer(path: Path, *, trust_remote_code: bool = False) -> "PreTrainedTokenizerBase":
    """The checkpoint's tokenizer.

    Raises:
        CheckpointError: the directory has none that transformers can read, or as in
            `check_tokenizer_files`.
        UnsupportedModelError: only a later transformers can.
    """
    from transformers import AutoTokenizer

    check_tokenizer_files(path)
    with quietly():
        try:
            with panics_as_errors():
                return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        except MemoryError:
            raise
        except Exception as error:  # files of others: transformers raises what it likes
            check_release(_config(path), trust_remote_code)
            raise CheckpointError(
                f"{path} has no tokenizer that can be read: {why_not(error)}"
            ) from error


def _config(path: Path) -> dict[str, Any]:
    """A checkpoint's configuration; empty where there is none, which loading will tell."""
    try:
        return read_json(path / "config.json", "configuration")
    except EasyEPError:
        return {}


def why_not(error: Exception) -> str:
    """What keeps transformers from reading a checkpoint, in one line, in easyep's words."""
    if "trust_remote_code" in str(error):
        return (
            "it comes with Python code of its own, which runs only if you say so: read it, then "
            "give --trust-remote-code (trust_remote_code in recipes and in Python)"
        )
    return first_line(error)


def is_mtp_key(key: str, model: "PreTrainedModel") -> bool:
    """Whether a tensor belongs to a layer after the last one, or to an `mtp` module."""
    if re.search(r"(^|\.)mtp\.", key):
        return True
    layer = re.search(r"(^|\.)layers\.(\d+)\.", key)
    last = model.config.get_text_config().num_hidden_layers
    return layer is not None and int(layer.group(2)) >= last


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' bars, and without its reports, which are checked here instead."""
    import logging as standard

    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    accelerate = standard.getLogger("accelerate")  # it tells what --max-memory asks for
    level = accelerate.level
    accelerate.setLevel(standard.ERROR)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        accelerate.setLevel(level)
        if bars:
            logging.enable_progress_bar()
