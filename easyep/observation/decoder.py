"""The decoder layers of a transformers model, wherever its family keeps them."""

import inspect
from typing import Any

import torch
from torch import nn

from easyep.errors import ObservationError

_LISTS = ("layers", "blocks")  # how families call their decoder layers
_PARTS = ("thinker", "language_model", "model")  # how they call the part that has them


def find_decoder(model: nn.Module) -> nn.Module:
    """The part of a model that turns token ids into hidden states.

    Raises:
        ObservationError: no part of it has a list of decoder layers, or that takes no `input_ids`.
    """
    part: Any = model
    for _ in range(8):  # no family nests deeper
        if _layers(part) is not None:
            found: nn.Module = part
            _check_takes_ids(found)
            return found
        inner = part.get_decoder() if hasattr(part, "get_decoder") else None
        if inner is None or inner is part:
            inner = next((getattr(part, name) for name in _PARTS if hasattr(part, name)), None)
        if inner is None:
            break
        part = inner
    raise ObservationError(f"{type(model).__name__} has no decoder layers that easyep can find")


def _check_takes_ids(decoder: nn.Module) -> None:
    taken = inspect.signature(decoder.forward).parameters.values()
    if not any(each.name.endswith("input_ids") or each.kind == each.VAR_KEYWORD for each in taken):
        raise ObservationError(
            f"{type(decoder).__name__}.forward takes no input_ids "
            f"({', '.join(each.name for each in taken)}); a model with code of its own must call "
            "its token ids so, as transformers' models do"
        )


def decoder_layers(decoder: nn.Module) -> list[nn.Module]:
    """The layers of what `find_decoder` found, in order."""
    layers = _layers(decoder)
    assert layers is not None
    return list(layers)


def input_embeddings(decoder: Any) -> nn.Module:
    """The module that turns a decoder's token ids into vectors.

    Raises:
        ObservationError: the decoder, of a model with code of its own, has none.
    """
    if hasattr(decoder, "get_input_embeddings"):
        found: nn.Module = decoder.get_input_embeddings()
        return found
    tables = (part for part in decoder.modules() if isinstance(part, nn.Embedding))
    table = next(tables, None)
    if table is None:
        raise ObservationError(
            f"{type(decoder).__name__} has neither get_input_embeddings() nor an nn.Embedding; "
            "its code must say where token ids go in"
        )
    return table


def input_device(decoder: Any) -> torch.device:
    """Where a decoder's token ids go in; its weights may be elsewhere, or anywhere."""
    embeddings = input_embeddings(decoder)
    placed = getattr(getattr(embeddings, "_hf_hook", None), "execution_device", None)
    if placed is None:
        placed = next(embeddings.parameters()).device
    return torch.device(placed)


def _layers(part: nn.Module) -> nn.ModuleList | None:
    lists = (getattr(part, name, None) for name in _LISTS)
    return next((found for found in lists if isinstance(found, nn.ModuleList)), None)
