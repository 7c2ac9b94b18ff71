"""Selections that others made: one list of 0/1 per MoE layer."""

from collections.abc import Sequence

import numpy as np

from easyep.architectures.router import Router
from easyep.artifacts import ModelIdentity, Selection
from easyep.errors import SelectionError


def from_mask(
    mask: Sequence[Sequence[int]],
    layers: Sequence[int],
    model: ModelIdentity,
    router: Router,
    *,
    groups: str = "balanced",
) -> Selection:
    """A selection from one list of 0/1 per MoE layer.

    Args:
        mask: 1 keeps the expert; [layers, E].
        layers: the indices of the model's MoE layers, in the order of the mask.
        groups: with ``"balanced"`` the mask must keep the same number in every group.

    Raises:
        SelectionError: the mask does not fit the model, or keeps unequal numbers.
    """
    if len(mask) != len(layers):
        raise SelectionError(f"the mask has {len(mask)} layers, the model {len(layers)} MoE layers")
    kept: dict[int, tuple[int, ...]] = {}
    for layer, row in zip(layers, mask, strict=True):
        whole = isinstance(row, Sequence) and len(row) == router.num_experts
        if not whole or any(value not in (0, 1) for value in row):
            raise SelectionError(
                f"layer {layer} of the mask must be {router.num_experts} numbers, each 0 or 1"
            )
        kept[layer] = tuple(expert for expert, value in enumerate(row) if value)
    counts = {len(experts) for experts in kept.values()}
    if len(counts) != 1 or 0 in counts:
        raise SelectionError(
            f"every layer must keep the same number of experts; the mask keeps {sorted(counts)}"
        )
    keep = counts.pop()
    router.check_keep(keep, groups)
    for layer, experts in kept.items() if groups == "balanced" else ():
        per_group = np.bincount([router.group_of(e) for e in experts], minlength=router.n_group)
        if len(set(per_group.tolist())) > 1:
            raise SelectionError(
                f"layer {layer} of the mask keeps {per_group.tolist()} experts of the router's "
                "groups, not the same number of each; --groups flatten gives the groups up"
            )
    return Selection(model, router.num_experts, keep, groups, "mask", kept)
