"""What was measured: studies, memory, throughput."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyep.artifacts import Selection
from easyep.checkpoint.inspection import bytes_per_expert, inspect
from easyep.errors import EasyEPError
from easyep.presenting.told import Told
from easyep.reporting import cost_figures, study_figures
from easyep.reporting.drawing import Drawn
from easyep.reporting.page import Section, Table
from easyep.reporting.study_table import cells_by_domain
from easyep.source import Source


def studies(told: Told) -> None:
    """What studies measured."""
    if not told.found.studies:
        told.left_out["accuracy and KL against experts kept"] = (
            "no result of a study (`easyep run recipes/studies/criteria.yaml --output FILE`)"
        )
    for path, study in told.found.studies.items():
        full: Mapping[str, Any] = next(
            (r for r in study["summary"] if r.get("criterion") == "full"), {}
        )
        if isinstance(full.get("mean"), float):
            told.facts[f"full model in {Path(path).name}"] = f"{100 * full['mean']:.1f} % accuracy"
        drawn = told.drawn(path, study_figures.drawn, study)
        tables = told.drawn(path, lambda value: [Table("All rows", *cells_by_domain(value))], study)
        words = [f"From {Path(path).name}. Accuracy in %."]
        settings = {name: value for name, value in study["study"].items() if value}
        made = study.get("made_with", {})
        told.sections.append(
            Section(
                f"Study: {study['study'].get('study', path)}",
                words,
                figures=drawn,
                tables=tables,
                verbatim={
                    "Settings of the study": json.dumps(settings, indent=2),
                    "Made with": json.dumps(made, indent=2),
                },
            )
        )


def costs(told: Told) -> None:
    """Memory and throughput."""
    drawn: list[Drawn] = []
    root, chosen = told.found.checkpoint, told.found.selection
    if root is None or chosen is None:
        told.left_out["memory before and after"] = "no pruned checkpoint"
    else:
        try:
            drawn.append(_memory(told, root, chosen))
        except EasyEPError as error:
            told.left_out["memory before and after"] = str(error)
    if not told.found.throughput:
        told.left_out["throughput against batch"] = "no result of `easyep bench --output FILE`"
    for path, found in told.found.throughput.items():
        drawn += told.drawn(
            path,
            _throughput,
            found,
        )
    if drawn:
        told.sections.append(Section("Cost", figures=drawn))


def _throughput(found: Mapping[str, Any]) -> list[Drawn]:
    fixed = found["fixed_batch"]
    if isinstance(fixed, Mapping) and not cost_figures.at_once(found):
        return []  # a server at request rates: no batch to draw it against
    return [cost_figures.throughput(found)]


def _memory(told: Told, root: Path, chosen: Selection) -> Drawn:
    inside, source = inspect(root), Source.open(root)
    gone = round(bytes_per_expert(source.layout) * (chosen.num_experts - chosen.keep))
    before, after = inside.bytes + gone, inside.bytes
    scale, unit = (1e9, "GB") if before >= 1e9 else (1e6, "MB")
    told.facts["size"] = (
        f"{before / scale:,.1f} {unit} before, {after / scale:,.1f} {unit} after "
        f"({after / before:.1%})"
    )
    experts = round(bytes_per_expert(source.layout) * chosen.keep)
    rest = inside.bytes - experts
    return cost_figures.memory(
        {"routed experts": (experts + gone, experts), "everything else": (rest, rest)}
    )


def comparisons(told: Told) -> None:
    """How like its source a pruned model is, by `easyep compare`."""
    if not told.found.comparisons:
        told.left_out["divergence by domain"] = "no result of `easyep compare --output FILE`"
    for path, found in told.found.comparisons.items():
        drawn = told.drawn(path, _divergence, found)
        tables = told.drawn(path, _by_domain, found)
        told.sections.append(Section(f"Compared: {Path(path).name}", figures=drawn, tables=tables))


def _divergence(found: Mapping[str, Any]) -> list[Drawn]:
    return [cost_figures.divergence(found["domains"], str(found["first"]), str(found["second"]))]


def _by_domain(found: Mapping[str, Any]) -> list[Table]:
    columns = ["domain", "tokens", "KL", "median", "p99", "agreement, %", "loss difference"]
    rows = [
        (
            each["domain"],
            each["tokens"],
            f"{each['divergence']['value']:.4f}",
            f"{each['median']:.4f}",
            f"{each['p99']:.3f}",
            f"{100 * each['agreement']['value']:.2f}",
            f"{each['loss_difference']['value']:+.4f}",
        )
        for each in found["domains"]
    ]
    return [Table("By domain", columns, rows)]
