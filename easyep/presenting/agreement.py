"""How much a choice depends on the domain, the criterion, the demonstrations."""

from collections.abc import Mapping, Sequence

import numpy as np

from easyep import scoring, selection
from easyep.artifacts import Observations, Scores
from easyep.criteria import CRITERIA, RoutedCriterion
from easyep.presenting.coverage import kept_shares
from easyep.presenting.told import Told
from easyep.reporting import overlap_figures, selection_figures, stability_figure
from easyep.reporting.drawing import Drawn
from easyep.reporting.page import Section, Table


def agreement(told: Told) -> None:
    """How much the choice depends on the domain, the criterion, the demonstrations."""
    drawn: list[Drawn] = []
    one = told.found.selection
    seen = [each for each in told.found.observations if each.sums is None]
    if told.found.observations:
        _shown(told)
    model = one.model if one is not None else seen[0].model if seen else None
    seen = [each for each in seen if model is not None and each.model.same_model(model)]
    experts = seen[0].router.num_experts if seen else 1
    keep = one.keep if one is not None else 0.5
    groups = one.groups if one is not None else "balanced"
    criterion = one.criterion if one is not None else "easy-ep"
    names = [name for name in CRITERIA if isinstance(CRITERIA[name], RoutedCriterion)]
    if criterion not in names:
        criterion = "easy-ep"
    if len({each.domain for each in seen}) > 1:
        chosen = {e.domain: _choose([e], criterion, keep, groups) for e in seen}
        drawn.append(_matrix("overlap-domains", f"domains, by {criterion}", chosen, experts))
    else:
        told.left_out["overlap between domains"] = "it needs observations of two domains or more"
    if seen and all(each.layers.keys() == seen[0].layers.keys() for each in seen):
        chosen = {name: _choose(seen, name, keep, groups) for name in names}
        drawn.append(_matrix("overlap-criteria", "criteria", chosen, experts))
    else:
        told.left_out["overlap between criteria"] = (
            "it needs the full record of a model, of the same layers in each domain"
        )
    if told.found.stability:
        for path, found in told.found.stability.items():
            drawn += told.drawn(path, lambda value: [stability_figure.drawn(value)], found)
    else:
        told.left_out["stability against the number of demonstrations"] = (
            "no result of `easyep stability --output FILE`"
        )
    if drawn:
        told.sections.append(Section("Agreement of choices", figures=drawn))


def _shown(told: Told) -> None:
    """What the model was shown, and the experts that it did not reach."""
    seen = told.found.observations
    unreached = sum(len(each) for one in seen for each in one.unreached().values())
    cells = sum(len(one.layers) * one.router.num_experts for one in seen)
    told.facts["experts never reached"] = f"{unreached:,} of {cells:,} (layer, expert, domain)"
    chosen = told.found.selection
    shares = kept_shares(told.found, chosen) if chosen is not None else {}
    rows = [
        (
            each.domain,
            len(each.demos),
            f"{each.num_tokens:,}",
            each.runner,
            each.dtype,
            sum(map(len, each.unreached().values())),
            *(f"{100 * share:.1f}" for share in _mean_and_least(shares.get(each.domain, []))),
        )
        for each in seen
    ]
    columns = ["domain", "demonstrations", "tokens", "runner", "type", "experts never reached"]
    if shares:
        columns += ["score kept, mean %", "least, %"]
    told.sections.append(
        Section("What the model was shown", tables=[Table("Observations", columns, rows)])
    )


def _mean_and_least(shares: Sequence[float]) -> tuple[float, ...]:
    return (sum(shares) / len(shares), min(shares)) if shares else ()


def _choose(
    seen: Sequence[Observations], criterion: str, keep: float, groups: str
) -> selection_figures.Kept:
    scores: Scores = scoring.score(list(seen), criterion)
    return selection.select(scores, keep, groups=groups).layers


def _matrix(
    name: str, what: str, chosen: Mapping[str, selection_figures.Kept], experts: int
) -> Drawn:
    values = [[_shared(one, other) for other in chosen.values()] for one in chosen.values()]
    number = len(next(iter(next(iter(chosen.values())).values())))
    return overlap_figures.overlaps(name, what, list(chosen), values, number / experts)


def _shared(one: selection_figures.Kept, other: selection_figures.Kept) -> float:
    both = [layer for layer in one if layer in other]  # one run may have seen MTP layers
    return float(np.mean([len({*one[i]} & {*other[i]}) / len(one[i]) for i in both]))
