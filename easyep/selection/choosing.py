"""Scores + budget + router limits -> Selection."""

import os
from collections.abc import Sequence

import numpy as np

from easyep.architectures.router import budget
from easyep.artifacts import Scores, Selection
from easyep.artifacts.files import opened
from easyep.choices import several
from easyep.errors import SelectionError
from easyep.progress import SILENT, Progress
from easyep.selection.budget import keep_count
from easyep.selection.max_min import max_min
from easyep.selection.pairs import PROVEN, least_costly, unavoidable
from easyep.selection.ranking import best
from easyep.selection.super_experts import super_experts
from easyep.selection.terms import (
    SUPER_EXPERTS,
    Flags,
    Named,
    Terms,
    as_entries,
    named_experts,
    terms_by_layer,
)


def select(
    scores: Scores | str | os.PathLike[str],
    keep: float = 0.5,
    *,
    groups: str = "balanced",
    align: int = 1,
    protect: Named | Sequence[Named] = (),
    forbid: Named | Sequence[Named] = (),
    progress: Progress = SILENT,
) -> Selection:
    """Keep the best experts, the same number in every layer; of equal scores the lower id.

    What is best depends on the scores: the highest, or where they are of pairs the set that costs
    least to drop, or where domains were mixed by max-min the set whose worst domain keeps most.

    Args:
        scores: one number per expert and layer, or the file that they were saved in.
        keep: a fraction in (0, 1), rounded to the nearest count that the router can work with,
            or a number of experts per layer (an integer >= 1), taken as it is but for `align`.
        groups: for group-limited routers: ``"balanced"`` keeps the best of each group, the same
            number in all, so that the pruned router is the original one restricted to the kept
            experts; ``"flatten"`` chooses freely and leaves a router without groups.
        align: the count is rounded to a multiple of this.
        protect: experts that are kept whatever their scores: ``"3:17,40"`` (layer 3), ``"3-5:17"``
            (layers 3 to 5), ``"17,40-42"`` (every layer), a JSON file (a selection, or an object
            from layers to lists of experts), or ``"super-experts"`` (see `super_experts`).
        forbid: experts that are dropped, in the same forms but the last.

    Raises:
        SelectionError: the router could not work with that many experts, or no choice respects
            what is protected and forbidden.
        MissingDependencyError: the scores are of pairs or mixed by max-min, and scipy is missing.
    """
    (chosen,) = nested(
        scores,
        [keep],
        groups=groups,
        align=align,
        protect=protect,
        forbid=forbid,
        progress=progress,
    )
    return chosen


def nested(
    scores: Scores | str | os.PathLike[str],
    keeps: float | Sequence[float],
    *,
    groups: str = "balanced",
    align: int = 1,
    protect: Named | Sequence[Named] = (),
    forbid: Named | Sequence[Named] = (),
    progress: Progress = SILENT,
) -> tuple[Selection, ...]:
    """Selections of several sizes, in the order of `keeps`: each is part of the larger ones.

    Sets of the highest scores are nested by themselves. Those of pairs and of max-min are not: a
    smaller one is chosen within the next larger one. Arguments and errors are those of `select`.
    """
    scores = opened(Scores, scores)
    wanted = several(budget)("keep", keeps)
    if not wanted:
        raise SelectionError("say how many experts to keep")
    counts = [keep_count(keep, scores.router, groups=groups, align=align) for keep in wanted]
    protected, forbidden = _named(scores, protect, forbid)
    chosen: dict[int, Selection] = {}
    sizes = sorted(set(counts), reverse=True)
    unproven = bool(scores.pairs) and scores.router.num_experts > PROVEN
    with progress.task("Choosing experts", len(sizes) * len(scores.layers), "layers") as task:
        for count in sizes:
            terms = terms_by_layer(
                list(scores.layers), scores.router, count, groups, protected, forbidden
            )
            layers: dict[int, tuple[int, ...]] = {}
            shares: list[float] = []
            for layer in scores.layers:
                layers[layer] = _choice(scores, terms[layer])
                if unproven:
                    costs = scores.pairs[layer]
                    shares.append(unavoidable(costs, layers[layer], terms[layer]))
                task.advance()
            if unproven:
                progress.say(
                    f"with more than {PROVEN} experts the {count} kept are such that no swap "
                    f"betters them; in every layer at least {min(shares):.1%} of what it costs to "
                    "drop the others is proven to be unavoidable"
                )
            chosen[count] = Selection(
                model=scores.model,
                num_experts=scores.router.num_experts,
                keep=count,
                groups=groups,
                criterion=scores.criterion,
                layers=layers,
            )
            forbidden = {
                layer: _all_but(kept, scores.router.num_experts) for layer, kept in layers.items()
            }
    return tuple(chosen[count] for count in counts)


def _choice(scores: Scores, terms: Terms) -> tuple[int, ...]:
    if scores.pairs:
        return least_costly(scores.pairs[terms.layer], terms)
    if scores.domains:
        each = [domain.layers[terms.layer] for domain in scores.domains]
        return max_min(each, [domain.weight for domain in scores.domains], terms)
    return best(scores.layers[terms.layer], terms)


def _all_but(kept: Sequence[int], count: int) -> Flags:
    others = np.ones(count, dtype=np.bool_)
    others[list(kept)] = False
    return others


def _named(
    scores: Scores, protect: Named | Sequence[Named], forbid: Named | Sequence[Named]
) -> tuple[dict[int, Flags], dict[int, Flags]]:
    entries = as_entries(protect)
    layers, count = sorted(scores.layers), scores.router.num_experts
    protected = named_experts([e for e in entries if e != SUPER_EXPERTS], layers, count)
    if SUPER_EXPERTS in entries:
        if not scores.peaks:
            raise SelectionError(
                "super experts are found by the output norms that a record holds; score again from "
                "observations"
            )
        for layer, found in super_experts(scores.peaks).items():
            protected[layer] = protected[layer] | found
    return protected, named_experts(forbid, layers, count)
