"""What was measured: studies, memory, throughput."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyep.artifacts import Selection
from easyep.checkpoint.inspection import bytes_per_expert, inspect
from easyep.errors import EasyEPError
from easyep.presenting.told import Told
from easyep.reporting import cost_figures, rate_figure, study_figures
from easyep.reporting.drawing import Drawn
from easyep.reporting.numbers import size, with_error
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
    for path, found in told.found.throughput.items():
        drawn += told.drawn(path, _throughput, found)
    if not told.found.throughput:
        told.left_out["throughput against batch"] = "no result of `easyep bench --output FILE`"
    elif not any(each.name == "throughput" for each in drawn):
        told.left_out["throughput against batch"] = "no result has decoded at a fixed batch"
    if drawn:
        told.sections.append(Section("Cost", figures=drawn))


def _throughput(found: Mapping[str, Any]) -> list[Drawn]:
    if not isinstance(found["fixed_batch"], Mapping):
        return [cost_figures.throughput(found)]
    decoded = any(each.get("decode_throughput") for each in found["fixed_batch"]["results"])
    drawn = [cost_figures.throughput(found)] if decoded else []
    paced = found.get("request_rates", {}).get("results", [])
    if not all(each.get("ended") for each in paced):
        drawn.append(rate_figure.drawn(paced))
    return drawn


def _memory(told: Told, root: Path, chosen: Selection) -> Drawn:
    inside, source = inspect(root), Source.open(root)
    gone = round(bytes_per_expert(source.layout) * (chosen.num_experts - chosen.keep))
    after = inside.bytes
    known = (told.found.manifest or {}).get("bytes_before")
    before = known if type(known) is int and known >= after + gone else after + gone
    told.facts["size"] = f"{size(before)} before, {size(after)} after ({after / before:.1%})"
    experts = round(bytes_per_expert(source.layout) * chosen.keep)
    parts = {
        "routed experts": (experts + gone, experts),
        "everything else": (after - experts, after - experts),
        "layers that were left out": (before - after - gone, 0),
    }
    return cost_figures.memory({name: sizes for name, sizes in parts.items() if any(sizes)})


def accuracies(told: Told) -> None:
    """What models can do, by `easyep eval`."""
    if not told.found.accuracies:
        told.left_out["accuracy by task"] = "no result of `easyep eval --output FILE.json`"
    for path, found in told.found.accuracies.items():
        tables = told.drawn(path, _by_task, found)
        words = ["Accuracy in %, with standard errors; differences are paired by items."]
        told.sections.append(Section(f"Evaluated: {Path(path).name}", words, tables=tables))


def _by_task(found: Mapping[str, Any]) -> list[Table]:
    models = [name for name in found if name != "differences"]
    pairs = {(each["task"], each["metric"]): each for each in found.get("differences", ())}
    rows: dict[tuple[str, str], list[object]] = {}
    for number, name in enumerate(models):
        for each in found[name]["results"]:
            key = (each["task"], each["metric"])
            row = rows.setdefault(key, [*key, each["samples"], *("-" for _ in models)])
            row[3 + number] = with_error(each["value"], each["stderr"], ".1f", 100)
    columns = ["task", "metric", "items", *models]
    if pairs:
        columns += ["difference", "p"]
        for key, row in rows.items():
            pair = pairs.get(key, {"difference": None, "p": None})
            row += [
                with_error(pair["difference"], pair.get("stderr"), "+.1f", 100),
                "-" if pair["p"] is None else f"{pair['p']:.2g}",
            ]
    return [Table("By task", columns, list(rows.values()))]


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
    columns = ["domain", "held out", "tokens", "KL", "median", "p99", "agreement, %"]
    columns.append("loss difference")
    rows = [
        (
            each["domain"],
            {True: "yes", False: "no"}.get(each.get("held_out"), "?"),
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
