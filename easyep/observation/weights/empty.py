"""A transformers model on the meta device: no weights, next to no memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from easyep.checkpoint.files import Checkpoint
from easyep.errors import UnsupportedModelError
from easyep.loading import UNREADABLE, check_release, model_class, quietly, why_not

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def drop(module: nn.Module) -> None:
    """Put all parameters of a module back on the meta device."""
    for each in module.modules():
        for name, parameter in list(each.named_parameters(recurse=False)):
            if not parameter.is_meta:
                empty = torch.empty_like(parameter, device="meta")
                setattr(each, name, nn.Parameter(empty, requires_grad=False))


def empty_model(checkpoint: Checkpoint, dtype: str, trust_remote_code: bool) -> "PreTrainedModel":
    """A checkpoint's model; its buffers are there, its parameters are not.

    Raises:
        UnsupportedModelError: transformers cannot build this model.
    """
    from transformers import AutoConfig

    check_release(checkpoint.config, trust_remote_code)
    with quietly():
        try:
            config = AutoConfig.from_pretrained(
                checkpoint.path, trust_remote_code=trust_remote_code
            )
            kind: Any = config.dtype or torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
            # Weights are dequantised here, by code that knows blocks that do not divide the rows.
            for part in (config, config.get_text_config()):
                if hasattr(part, "quantization_config"):
                    del part.quantization_config
            with without_weights():
                cls = model_class(config, trust_remote_code)
                if hasattr(cls, "from_config"):  # one that chooses by the configuration
                    model = cls.from_config(config, dtype=kind, trust_remote_code=trust_remote_code)
                else:
                    model = cls._from_config(config, dtype=kind)
        except (*UNREADABLE, ImportError, OSError) as error:
            raise UnsupportedModelError(
                f"transformers cannot build {checkpoint.path}: {why_not(error)}"
            ) from error
    built: PreTrainedModel = model.eval().requires_grad_(False)
    return built


@contextmanager
def without_weights() -> Iterator[None]:
    """Within it, modules are made without their parameters."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False), _NothingBig():
        yield


class _NothingBig(TorchFunctionMode):
    """Within it, big tensors are made without memory.

    `init_empty_weights` makes each parameter first and gives it away then, which asks for the
    memory of all experts of a layer at once.
    """

    SMALLEST = 1 << 20  # numbers

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones, torch.randn, torch.full):
            empty = func(*args, **{**kwargs, "device": "meta"})
            if empty.numel() >= self.SMALLEST:
                return empty
        return func(*args, **kwargs)
