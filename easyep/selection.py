"""Scores + budget + router limits -> Selection."""

import math
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from easyep.architectures.router import Router
from easyep.artifacts import ModelIdentity, Scores, Selection
from easyep.artifacts.selection import GROUP_MODES
from easyep.errors import SelectionError
from easyep.registry import unknown_name


def select(
    scores: Scores | str | os.PathLike[str],
    keep: float = 0.5,
    *,
    groups: str = "balanced",
    align: int = 1,
) -> Selection:
    """Keep the best experts, the same number in every layer; of equal scores the lower id.

    Args:
        scores: one number per expert and layer, or the file that they were saved in.
        keep: a fraction in (0, 1), rounded to the nearest count that the router can work with,
            or a number of experts per layer (an integer >= 1), taken as it is but for `align`.
        groups: for group-limited routers: ``"balanced"`` keeps the best of each group, the same
            number in all, so that the pruned router is the original one restricted to the kept
            experts; ``"flatten"`` chooses freely and leaves a router without groups.
        align: the count is rounded to a multiple of this.

    Raises:
        SelectionError: the router could not work with that many experts.
    """
    if not isinstance(scores, Scores):
        scores = Scores.load(scores)
    count = keep_count(keep, scores.router, groups=groups, align=align)
    return Selection(
        model=scores.model,
        num_experts=scores.router.num_experts,
        keep=count,
        groups=groups,
        criterion=scores.criterion,
        layers={
            layer: _best(values, count, scores.router, groups)
            for layer, values in scores.layers.items()
        },
    )


def keep_count(keep: float, router: Router, *, groups: str = "balanced", align: int = 1) -> int:
    """How many experts per layer a `keep` of `select` means.

    Raises:
        SelectionError: it is neither a fraction nor a count that the router can work with.
    """
    if groups not in GROUP_MODES:
        raise unknown_name("group mode", groups, GROUP_MODES)
    if align < 1:
        raise SelectionError(f"align must be a positive integer, not {align}")
    whole = math.isfinite(keep) and keep >= 1 and keep == int(keep)
    if isinstance(keep, bool) or not (whole or 0 < keep < 1):
        raise SelectionError(
            f"keep must be a fraction in (0, 1) or a number of experts per layer, not {keep}"
        )
    if whole and (align == 1 or keep % align == 0):
        router.check_keep(int(keep), groups, align)
        return int(keep)
    asked = keep if whole else keep * router.num_experts
    if not 0 < asked < router.num_experts:
        router.check_keep(int(keep), groups)
    count = router.nearest_keep(asked / router.num_experts, groups, align)
    valid = router.valid_counts(groups, align)
    step = valid[1] - valid[0] if len(valid) > 1 else 1
    if abs(count - asked) >= step:
        # Rounding would not be what was meant: say what the router needs instead.
        router.check_keep(max(1, round(asked)), groups, align)
    return count


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


def retained_share(scores: Scores, selection: Selection) -> dict[int, float]:
    """The share of each layer's total score that the kept experts hold, in [0, 1].

    It favours its own criterion by construction: a sanity check, not a measure of quality.
    """
    shares = {}
    for layer, kept in selection.layers.items():
        total = float(scores.layers[layer].sum())
        shares[layer] = float(scores.layers[layer][list(kept)].sum()) / total if total else 0.0
    return shares


def _best(
    scores: npt.NDArray[np.float64], keep: int, router: Router, groups: str
) -> tuple[int, ...]:
    n_group = router.n_group if groups == "balanced" else 1
    size = router.num_experts // n_group
    kept: list[int] = []
    for start in range(0, router.num_experts, size):
        order = np.argsort(-scores[start : start + size], kind="stable")
        kept += (start + order[: keep // n_group]).tolist()
    return tuple(sorted(kept))
