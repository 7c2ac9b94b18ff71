"""Experts out of reach in a model that is loaded, so that a choice can be tried in memory."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from easyep.artifacts import Selection
from easyep.errors import UnsupportedModelError

if TYPE_CHECKING:
    from torch import nn

_BIAS = "e_score_correction_bias"


@contextmanager
def only(model: "nn.Module", selection: Selection, *, reroute: bool = True) -> Iterator[None]:
    """Within this context the model has only the selected experts.

    With `reroute` the router chooses among them, as in the pruned checkpoint: the bias of its
    choice is -inf for the others, and with groups given up there is one group. Without, the
    router chooses as before, and what dropped experts would have added is left out.

    Raises:
        UnsupportedModelError: a router has no such bias.
    """
    with ExitStack() as undo:
        for layer, kept in selection.layers.items():
            found = _router(model, layer)
            if found is None:
                continue  # an MTP layer, which transformers does not run
            path, router = found
            if reroute:
                _mask(router, kept, selection, undo)
            else:
                experts = model.get_submodule(f"{path.rpartition('.')[0]}.experts")
                _drop(experts, kept, selection.num_experts, undo)
        yield


def _router(model: "nn.Module", layer: int) -> tuple[str, Any] | None:
    inside = [
        (name, module)
        for name, module in model.named_modules()
        if re.search(rf"(?:^|\.)layers\.{layer}\.", name)
    ]
    routers = [(name, module) for name, module in inside if hasattr(module, _BIAS)]
    if inside and not routers:
        raise UnsupportedModelError(
            f"layer {layer} has no router with a correction bias ({_BIAS}), which trying a choice "
            "in memory needs; a study with 'tasks' writes the pruned checkpoints instead"
        )
    return routers[0] if routers else None


def _mask(router: Any, kept: tuple[int, ...], selection: Selection, undo: ExitStack) -> None:
    import torch

    bias = getattr(router, _BIAS).data
    before = bias.clone()
    undo.callback(bias.copy_, before)
    dropped = torch.ones(selection.num_experts, dtype=torch.bool, device=bias.device)
    dropped[list(kept)] = False
    bias[dropped] = -torch.inf
    if selection.groups == "flatten":
        for name in ("num_group", "n_group", "topk_group"):
            if hasattr(router, name):
                undo.callback(setattr, router, name, getattr(router, name))
                setattr(router, name, 1)


def _drop(experts: Any, kept: tuple[int, ...], num_experts: int, undo: ExitStack) -> None:
    import torch

    stays = torch.zeros(num_experts, device=next(experts.parameters()).device)
    stays[list(kept)] = 1.0

    def without(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_states, ids, weights = args
        return hidden_states, ids, weights * stays[ids].to(weights.dtype)

    undo.callback(experts.register_forward_pre_hook(without).remove)
