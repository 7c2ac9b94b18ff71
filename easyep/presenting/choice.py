"""Which experts are kept, by what scores, how close; and where the choice comes from."""

import json
from collections.abc import Mapping
from typing import Any

from easyep import selection
from easyep.presenting.told import DAMAGED, Told
from easyep.reporting import selection_figures
from easyep.reporting.page import Section, Table


def kept(told: Told) -> None:
    """Which experts are kept, by what scores, how close."""
    chosen, scores = told.found.selection, told.found.scores
    if chosen is None:
        told.left_out["kept experts"] = "no selection; give a pruned checkpoint or a work directory"
        return
    told.facts |= {
        "model": chosen.model.name,
        "kept": f"{chosen.keep} of {chosen.num_experts} experts in each of "
        f"{len(chosen.layers)} layers",
        "criterion": chosen.criterion,
        "groups": chosen.groups,
    }
    if scores is not None:
        unscored = sorted(chosen.layers.keys() - scores.layers.keys())
        if not scores.model.same_model(chosen.model):
            told.left_out["scores"] = f"they are of another model, {scores.model.name}"
            scores = None
        elif unscored:
            told.left_out["scores"] = f"layer {unscored[0]}, whose experts are chosen, has none"
            scores = None
    layers = scores.layers if scores is not None else None
    drawn = [selection_figures.experts_by_layers(chosen.layers, chosen.num_experts, layers)]
    tables = []
    if scores is None:
        told.left_out["scores, coverage, margins"] = (
            "no scores.json; `easyep prune --work-dir` keeps it, give that directory as well"
        )
    else:
        explained = selection.explain(scores, chosen)
        retained = {each.layer: each.retained for each in explained}
        drawn.append(selection_figures.coverage(scores.layers, chosen.layers, retained))
        close = {e.layer: e.margin.relative for e in explained if e.margin is not None}
        if close:
            drawn.append(selection_figures.margins(close))
        worst = min(explained, key=lambda each: each.retained)
        told.facts["least share of the score kept"] = (
            f"{worst.retained:.1%}, in layer {worst.layer}"
        )
        rows = [
            (
                e.layer,
                f"{100 * e.retained:.2f}",
                e.margin.kept if e.margin else "-",
                e.margin.dropped if e.margin else "-",
                f"{100 * e.margin.relative:.2f}" if e.margin else "-",
                e.unseen,
            )
            for e in explained
        ]
        names = ["layer", "score kept, %", "last kept", "first dropped", "margin, %"]
        tables.append(Table("Layer by layer", [*names, "kept, never reached"], rows))
    told.sections.append(Section("Kept experts", figures=drawn, tables=tables))


def origin(told: Told) -> None:
    """Recipe, versions, hashes."""
    manifest = told.found.manifest
    if manifest is None:
        told.left_out["recipe, versions, hashes"] = "no pruned checkpoint with its easyep.json"
        return
    try:
        told.sections.append(_origin(told, manifest))
    except DAMAGED as error:
        told.left_out["recipe, versions, hashes"] = (
            f"easyep.json is damaged: {type(error).__name__}: {error}"
        )


def _origin(told: Told, manifest: Mapping[str, Any]) -> Section:
    if "least share of the score kept" not in told.facts and manifest.get("retained_share"):
        shares = manifest["retained_share"]
        layer = min(shares, key=lambda each: shares[each])
        told.facts["least share of the score kept"] = f"{shares[layer]:.1%}, in layer {layer}"
    sums = manifest.get("checksums", {})
    rows = [(name, digest) for name, digest in sorted(sums.items())]
    parts = {
        "Recipe": manifest.get("recipe", "not recorded"),
        "Versions": {"easyep": manifest.get("easyep"), **(manifest.get("versions") or {})},
        "Source": manifest.get("source"),
        "Observations": manifest.get("observations", "not recorded"),
    }
    return Section(
        "Recipe, versions, hashes",
        tables=[Table("SHA-256 of the files", ["file", "hash"], rows)] if rows else [],
        verbatim={name: json.dumps(value, indent=2) for name, value in parts.items()},
    )
