"""A selection on the unpruned model: experts that are not kept are put out of the routers' reach.

A masked expert's logit is minus infinity, and so is its bias in the choice. What the routers then
do with the experts that are left is what they do in the pruned checkpoint: softmax gives a masked
expert no share, sigmoid no score, and top-k does not choose it.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from easyep import loading
from easyep.architectures.spec import Architecture
from easyep.artifacts import Selection
from easyep.checkpoint.computed import remapped_table
from easyep.checkpoint.config_edits import config_edits
from easyep.checkpoint.headers import Tensor as Header
from easyep.checkpoint.kept_experts import kept_experts
from easyep.checkpoint.layout import Layout
from easyep.errors import ArtifactError, UnsupportedModelError
from easyep.source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Where families keep their routers; what a router has inside is its own affair.
_ROUTER = re.compile(r"(?:^|\.)(?:layers|blocks)\.(\d+)\.(?:.+\.)?(?:gate|router)$")
_TABLE = re.compile(r"(?:^|\.)(?:layers|blocks)\.(\d+)\..*tid2eid$")
_PRODUCTS = {nn.functional.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm}


def load_masked(
    path: Path,
    selection: Selection,
    *,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
) -> "PreTrainedModel":
    """The unpruned model, which computes what the checkpoint pruned by `selection` would.

    Args:
        path: the unpruned checkpoint's directory.
        selection: the experts that stay.
        dtype, device, trust_remote_code: as in `load_model`.

    Raises:
        ArtifactError: the selection is of another model.
        SelectionError: the router could not work with it.
        UnsupportedModelError: the routers of this model cannot be found.
    """
    source = Source.open(path)
    check_selection(source, selection)
    model = loading.load_model(
        path,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        settings=flattening(source, selection),
    )
    mask(model, selection, source.architecture, source.layout)
    return model


def check_selection(source: Source, selection: Selection) -> None:
    """Check that a selection is of a model, before the model is loaded.

    Raises:
        ArtifactError: the selection is of another model.
        SelectionError: the router could not work with it.
    """
    if not source.identity.same_model(selection.model):
        raise ArtifactError(
            f"the selection is of {selection.model.name} ({selection.model.model_type}), not of "
            f"{source.model.path}: their configs, tensors or weights differ"
        )
    kept_experts(source.layout, selection, "drop")


def flattening(source: Source, selection: Selection) -> dict[tuple[str, ...], Any]:
    """What a selection changes in the model's configuration: the groups, where it flattens them."""
    return config_edits(
        source.checkpoint.config,
        source.architecture,
        keep=source.router.num_experts,
        flatten=selection.groups == "flatten",
        drop_mtp=False,
        rename=lambda name: name,
    )


@contextmanager
def masked(
    model: nn.Module, selection: Selection, architecture: Architecture, layout: Layout
) -> Iterator[None]:
    """Within this context `mask` holds; after it the model is as before."""
    undo = mask(model, selection, architecture, layout)
    with undo:
        yield


def mask(
    model: nn.Module, selection: Selection, architecture: Architecture, layout: Layout
) -> ExitStack:
    """Put the experts of `model` that are not in `selection` out of reach.

    Groups are the configuration's: for a selection that flattens them the model must have been
    built without (`flattening`).

    Args:
        model: a transformers model.
        selection: the experts that stay.
        architecture: the model's family.
        layout: what its checkpoint holds.

    Returns:
        What undoes it when it is closed.

    Raises:
        SelectionError: the router could not work with the selection.
        UnsupportedModelError: the router of a layer cannot be found.
    """
    kept = kept_experts(layout, selection, "drop")
    reached = set()
    with ExitStack() as undo:
        for path, router in _routers(model):
            layer = _layer(path, architecture, layout)
            widths = _widths(layout, layer)
            if layer not in kept or not _has_axis(router, widths):
                continue
            reached.add(layer)
            dropped = sorted(set(range(selection.num_experts)) - set(kept[layer]))
            for bias in _biases(model, path, router):
                if bias.shape[-1] in widths:
                    undo.callback(bias.copy_, bias.clone())
                    bias[..., dropped] = -torch.inf
            _replace_forward(router, _without(router.forward, widths, dropped), undo)
        for path, table in model.named_buffers():
            if found := _TABLE.search(path):
                layer = int(found[1])
                reached.add(layer)
                undo.callback(table.copy_, table.clone())
                table.copy_(_remapped(table, kept[layer], selection.num_experts))
        if missing := sorted(set(kept) - reached):
            raise UnsupportedModelError(
                f"easyep cannot find the router of {layout.called(missing[0])} in "
                f"{type(model).__name__}, and cannot mask it; rewrite the checkpoint and evaluate "
                "that"
            )
        return undo.pop_all()


def _routers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules called ``gate`` or ``router`` in layers, without those inside of another."""
    inside = None
    for path, module in model.named_modules():
        if inside is not None and path.startswith(inside):
            continue
        if _ROUTER.search(path):
            inside = f"{path}."
            yield path, module


def _layer(path: str, architecture: Architecture, layout: Layout) -> int:
    """The number in selections of the layer that a router belongs to."""
    found = _ROUTER.search(path)
    assert found is not None
    second = architecture.second_routers
    behind = layout.router.num_layers if second is not None and second.search(path) else 0
    return int(found[1]) + behind


def _widths(layout: Layout, layer: int) -> set[int]:
    """How many logits the router of a layer gives: one per expert, and what is behind them."""
    experts = layout.router.num_experts
    rows = layout.layers[layer].rows if layer in layout.layers else ()
    return {experts} | {experts + each.tail for each in rows if each.rows_per_expert == 1}


def _has_axis(router: nn.Module, widths: Collection[int]) -> bool:
    """Whether a module has weights with one entry per expert along an axis."""
    return any(size in widths for weight in router.parameters() for size in weight.shape)


def _biases(model: nn.Module, path: str, router: nn.Module) -> Iterator[Tensor]:
    """Biases of the choice: the router's own, and those of the block that hands them to it."""
    block = model.get_submodule(path.rpartition(".")[0])
    for owner, deep in ((router, True), (block, False)):
        for name, tensor in (
            *owner.named_parameters(recurse=deep),
            *owner.named_buffers(recurse=deep),
        ):
            if "bias" in name:
                yield tensor.data


def _replace_forward(router: nn.Module, forward: Callable[..., Any], undo: ExitStack) -> None:
    own = vars(router).get("forward")
    if own is None:
        undo.callback(vars(router).pop, "forward")
    else:
        undo.callback(setattr, router, "forward", own)
    router.forward = forward


def _without(
    forward: Callable[..., Any], widths: Collection[int], dropped: list[int]
) -> Callable[..., Any]:
    """A router's forward whose logits of the dropped experts are minus infinity."""

    def patched(*arguments: Any, **named: Any) -> Any:
        with _Logits(widths, dropped):
            return forward(*arguments, **named)

    return patched


class _Logits(TorchFunctionMode):
    """Within this context, in this thread, products of a router's width lose dropped experts."""

    def __init__(self, widths: Collection[int], dropped: list[int]) -> None:
        super().__init__()
        self._widths = widths
        self._dropped = dropped

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _PRODUCTS and result.shape[-1] in self._widths:
            result[..., self._dropped] = -torch.inf
        return result


def _remapped(table: Tensor, kept: tuple[int, ...], experts: int) -> Tensor:
    """A table of experts' numbers as the pruned checkpoint has it, in the old numbers."""
    values = table.cpu().numpy().astype("<i8")
    header = Header("tid2eid", "", "I64", values.shape, 0, values.nbytes)
    new = np.frombuffer(remapped_table(values.tobytes(), header, kept, experts), "<i8")
    return torch.tensor(np.array(kept)[new.reshape(values.shape)], dtype=table.dtype)
