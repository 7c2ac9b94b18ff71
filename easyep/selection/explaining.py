"""What a selection keeps and loses, layer by layer, and how it differs from another."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from easyep.artifacts import Observations, RoutedTokens, Scores, Selection
from easyep.errors import SelectionError


@dataclass(frozen=True)
class Margin:
    """The closest decision of a layer: the last expert that was kept, and the first that was not.

    Attributes:
        kept, dropped: their ids.
        relative: their difference, kept minus dropped, over the larger size of the two; below 0
            where protection or the choice of a set, not the score alone, decided.
    """

    kept: int
    dropped: int
    relative: float


@dataclass(frozen=True)
class Agreement:
    """How much of the recorded routing survives, as shares in [0, 1].

    The router after pruning still chooses every expert that it chose before and that is kept; in
    place of a dropped one it takes another. That holds exactly for routers without groups. Where
    groups limit the choice, they are scored anew, and these shares are upper bounds.

    Attributes:
        routes: routes to kept experts: the mean overlap of a token's experts before and after.
        tokens: tokens all of whose experts are kept: they are routed as before.
        weight: combine weight on kept experts.
    """

    routes: float
    tokens: float
    weight: float


@dataclass(frozen=True)
class Explained:
    """One layer of a selection.

    Attributes:
        layer: its index.
        retained: share of the layer's total score that the kept experts hold.
        margin: the closest decision; None where all are kept or the scores are all 0.
        unseen: kept experts with a score of 0: no token reached them.
        agreement: on the recorded tokens, if a record was given.
    """

    layer: int
    retained: float
    margin: Margin | None
    unseen: int
    agreement: Agreement | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Compared:
    """One layer of two selections.

    Attributes:
        layer: its index.
        overlap: experts in both, as a share of the smaller selection.
        added: experts that only the first keeps.
        missing: experts that only the second keeps.
        retained: share of the first's scores that the second's experts hold.
        agreement: of the second, on the recorded tokens, if a record was given.
    """

    layer: int
    overlap: float
    added: tuple[int, ...]
    missing: tuple[int, ...]
    retained: float
    agreement: Agreement | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def retained_share(scores: Scores, selection: Selection) -> dict[int, float]:
    """The share of each layer's total score that the kept experts hold, in [0, 1].

    It favours its own criterion by construction: a sanity check, not a measure of quality.
    """
    return {layer: _share(scores, layer, kept) for layer, kept in selection.layers.items()}


def explain(
    scores: Scores, selection: Selection, observations: Observations | None = None
) -> list[Explained]:
    """Say of every layer what was kept, and how close the decision was.

    Args:
        scores: what the selection was made by.
        selection: the kept experts.
        observations: the record, for the agreement of routing.

    Raises:
        SelectionError: they are not of one model, or not of the same layers.
    """
    _check(scores, selection, observations)
    return [
        Explained(
            layer=layer,
            retained=_share(scores, layer, kept),
            margin=_margin(scores, layer, selection),
            unseen=int((scores.layers[layer][list(kept)] == 0).sum()),
            agreement=_agreement(observations, layer, kept),
        )
        for layer, kept in selection.layers.items()
    ]


def compare(
    scores: Scores,
    selection: Selection,
    other: Selection,
    observations: Observations | None = None,
) -> list[Compared]:
    """Say of every layer that both have how two selections differ.

    Arguments and errors as in `explain`; SelectionError also where they have no layer in common.
    """
    _check(scores, selection, observations)
    _check(scores, other, None)
    if not selection.layers.keys() & other.layers.keys():
        raise SelectionError("the two selections have no layer in common; compare others")
    compared = []
    for layer, kept in selection.layers.items():
        if layer in other.layers:
            mine, theirs = set(kept), set(other.layers[layer])
            compared.append(
                Compared(
                    layer=layer,
                    overlap=len(mine & theirs) / min(len(mine), len(theirs)),
                    added=tuple(sorted(mine - theirs)),
                    missing=tuple(sorted(theirs - mine)),
                    retained=_share(scores, layer, other.layers[layer]),
                    agreement=_agreement(observations, layer, other.layers[layer]),
                )
            )
    return compared


def agreement(record: RoutedTokens, kept: tuple[int, ...]) -> Agreement:
    """How much of a layer's recorded routing goes to the kept experts."""
    taken = record.weights != 0  # weight 0: the token took no such route
    here = np.isin(record.expert_ids, kept)
    weight = float(record.weights.sum(dtype=np.float64))
    on_kept = float(np.where(here, record.weights, 0).sum(dtype=np.float64))
    return Agreement(
        routes=float(here[taken].mean()) if taken.any() else 1.0,
        tokens=float((here | ~taken).all(axis=1).mean()) if len(record) else 1.0,
        weight=on_kept / weight if weight else 1.0,
    )


def _agreement(
    observations: Observations | None, layer: int, kept: tuple[int, ...]
) -> Agreement | None:
    if observations is None or layer not in observations.layers:
        return None
    return agreement(observations.layers[layer], kept)


def _share(scores: Scores, layer: int, kept: tuple[int, ...]) -> float:
    """The kept part of the layer's total score; where pairs have costs, the part not lost."""
    if scores.pairs:
        costs = scores.pairs[layer]
        dropped = np.setdiff1d(np.arange(len(costs)), kept)
        everything = float(costs.sum())
        lost = float(costs[np.ix_(dropped, dropped)].sum())
        return 1 - lost / everything if everything else 0.0
    values = scores.layers[layer]
    total = float(values.sum())
    return float(values[list(kept)].sum()) / total if total else 0.0


def _margin(scores: Scores, layer: int, selection: Selection) -> Margin | None:
    values, kept = scores.layers[layer], selection.layers[layer]
    grouped = selection.groups == "balanced"
    size = scores.router.num_experts // (scores.router.n_group if grouped else 1)
    closest: Margin | None = None
    for start in range(0, len(values), size):
        mine = [e for e in kept if start <= e < start + size]
        others = [e for e in range(start, start + size) if e not in mine]
        if not mine or not others:
            continue
        last = min(mine, key=lambda e: (values[e], -e))
        first = max(others, key=lambda e: (values[e], -e))
        if values[last] or values[first]:
            scale = float(max(abs(values[last]), abs(values[first])))
            relative = float(values[last] - values[first]) / scale
            if closest is None or relative < closest.relative:
                closest = Margin(last, first, relative)
    return closest


def _check(scores: Scores, selection: Selection, observations: Observations | None) -> None:
    for other, what in ((selection.model, "selection"), (observations, "observations")):
        model = other.model if isinstance(other, Observations) else other
        if model is not None and not scores.model.same_model(model):
            raise SelectionError(
                f"the {what} is of {model.name}, the scores are of {scores.model.name}: compare "
                "what was made from one model"
            )
    missing = sorted(set(selection.layers) - set(scores.layers))
    if missing:
        raise SelectionError(
            f"the selection has layer {missing[0]}, which was not scored; those scored: "
            f"{', '.join(map(str, sorted(scores.layers)))}"
        )
