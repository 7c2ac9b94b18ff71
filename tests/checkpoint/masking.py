"""Experts out of reach: every router of transformers with the logits of some experts at -inf."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

from easyep.artifacts.selection import Selection
from tests.checkpoint.by_difference import TABLES, layer_of
from tests.tiny_models.settings import Settings

_MOST_ROWS_BEHIND = 2  # of a router, for what is not a routed expert


def mask(model: Any, family: Settings, selection: Selection) -> None:
    """Put the experts of `model` that are not in `selection` out of the routers' reach."""
    reached = set()
    for path, router in _routers(model):
        layer = layer_of(f"{path}.", family)
        kept = selection.layers.get(layer)
        if kept is None:
            continue
        reached.add(layer)
        experts = range(selection.num_experts)
        dropped = [expert for expert in experts if expert not in kept]
        counts = range(selection.num_experts, selection.num_experts + _MOST_ROWS_BEHIND + 1)
        for bias in _biases(model, path, router):
            if bias.shape[-1] in counts:
                bias[..., dropped] = -torch.inf
        router.forward = _masked(router.forward, counts, dropped)
    missing = {layer for layer in selection.layers if layer not in reached}
    assert missing <= {-1 if family.mtp is None else family.mtp.index(family.layers)}, missing


def follow_tables(model: Any, pruned: Any, family: Settings, selection: Selection) -> None:
    """Let tables of experts in `model` name the experts that those in `pruned` name."""
    tables = dict(pruned.named_buffers())
    for name, buffer in model.named_buffers():
        if TABLES.search(name):
            kept = torch.tensor(selection.layers[layer_of(name, family)])
            buffer.copy_(kept[tables[name]])


def _routers(model: Any) -> Iterator[tuple[str, Any]]:
    """The modules called ``gate`` or ``router`` in layers, without those inside of another."""
    inside = ""
    for path, module in model.named_modules():
        if inside and path.startswith(inside):
            continue
        if re.search(r"(?:layers|blocks)\.\d+\.(?:.+\.)?(?:gate|router)$", path):
            inside = f"{path}."
            yield path, module


def _biases(model: Any, path: str, router: Any) -> Iterator[torch.Tensor]:
    """Biases of the choice: the router's own, and those of the block that hands them to it."""
    block = model.get_submodule(path.rpartition(".")[0])
    for owner, deep in ((router, True), (block, False)):
        for name, tensor in (
            *owner.named_parameters(recurse=deep),
            *owner.named_buffers(recurse=deep),
        ):
            if "bias" in name:
                yield tensor.data


def _masked(forward: Callable[..., Any], counts: range, dropped: list[int]) -> Callable[..., Any]:
    """A router's forward whose logits of the dropped experts are -inf."""
    linear = torch.nn.functional.linear

    def logits(*arguments: Any, **named: Any) -> torch.Tensor:
        out: torch.Tensor = linear(*arguments, **named)
        if out.shape[-1] in counts:
            out[..., dropped] = -torch.inf
        return out

    def patched(*arguments: Any, **named: Any) -> Any:
        with mock.patch.object(torch.nn.functional, "linear", logits):
            return forward(*arguments, **named)

    return patched
