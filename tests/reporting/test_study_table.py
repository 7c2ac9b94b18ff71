"""Tables of a study, against a study small enough to be read."""

import json
from statistics import mean, stdev

import pytest

from easyep.reporting import study_pairs, study_table

DOMAINS = ("math", "code")


def row(criterion, keep, groups, accuracy, kl, **more):
    return {
        "criterion": criterion,
        "keep": keep,
        "groups": groups,
        "shown": "own",
        "n_demos": 25,
        "reroute": True,
        "mean": accuracy,
        "spread": None if criterion == "full" else 0.0125,
        "domains": dict.fromkeys(DOMAINS, accuracy),
        "agreement": 0.5,
        "kl": kl,
        "kl_spread": None if criterion == "full" else 0.002,
        "bytes": 10 * keep,
        **more,
    }


def result(*rows, cells=()):
    full = row("full", 32, "original", 0.99, 0.0, shown="", n_demos=0)
    return {"study": {"domains": DOMAINS}, "summary": [full, *rows], "cells": cells}


def test_budgets_stand_side_by_side_and_criteria_below_each_other():
    found = result(
        row("easy-ep", 16, "balanced", 0.5, 0.25),
        row("easy-ep", 4, "flatten", 0.25, 0.00625),
        row("random", 16, "balanced", 0.125, 1.5, shown="nothing"),
    )
    assert study_table.accuracies(found).splitlines() == [
        "| criterion | 16, balanced | 4, flatten |",
        "| --- | ---: | ---: |",
        "| full model | 99.0 | 99.0 |",
        "| easy-ep | 50.0 ± 1.2 | 25.0 ± 1.2 |",
        "| random | 12.5 ± 1.2 | - |",
    ]
    assert study_table.divergences(found).splitlines()[2:] == [
        "| easy-ep | 0.250 ± 0.002 | 0.0063 ± 0.0020 |",
        "| random | 1.500 ± 0.002 | - |",
    ]


def test_what_else_has_several_values_is_a_column():
    found = result(
        row("easy-ep", 16, "flatten", 0.5, 0.5),
        row("easy-ep", 16, "flatten", 0.25, 0.5, reroute=False),
    )
    assert study_table.accuracies(found).splitlines()[0] == "| reroute | 16, flatten |"
    assert study_table.accuracies(found).splitlines()[3:] == [
        "| yes | 50.0 ± 1.2 |",
        "| no | 25.0 ± 1.2 |",
    ]
    found = result(
        *(
            row(criterion, 16, "flatten", 0.5, 0.5, n_demos=number)
            for criterion in ("easy-ep", "reap")
            for number in (1, 5)
        )
    )
    assert study_table.accuracies(found).splitlines()[0] == "| criterion | 1 | 5 |"
    assert study_table.by_domain(found).splitlines()[:3] == [
        "| criterion | experts | groups | demonstrations | math | code | mean | KL | agreement |",
        "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| full | 32 | original | - | 99.0 | 99.0 | 99.0 | 0.000 | 50.0 |",
    ]


def cell(criterion, domain, groups, kl, draw=0):
    fixed = {"keep": 16, "seed": 0, "shown": "own", "n_demos": 25, "reroute": True}
    return {
        "criterion": criterion, "domain": domain, "groups": groups, "draw": draw, "kl": kl, **fixed
    }  # fmt: skip


def test_pairs_differ_in_one_choice_only():
    cells = [
        cell("full", "math", "original", 0.0),
        cell("easy-ep", "math", "balanced", 0.4),
        cell("easy-ep", "code", "balanced", 0.1),
        cell("easy-ep", "math", "flatten", 0.1),
        cell("reap", "math", "balanced", 0.2),
        cell("reap", "code", "balanced", 0.8),
        cell("reap", "math", "balanced", 0.2, draw=1),  # easy-ep has no such draw
    ]
    found = result(cells=cells)
    # ratios 1/2 and 8: their geometric mean is 2
    assert study_pairs.by_criterion(found).splitlines() == [
        "| criterion | 16, balanced |",
        "| --- | ---: |",
        "| reap | 2.00 (1 of 2) |",
    ]
    assert study_pairs.by_groups(found).splitlines() == [
        "| criterion | 16 |",
        "| --- | ---: |",
        "| easy-ep | 0.25 (1 of 1) |",
    ]


AXES = ("criterion", "keep", "groups", "shown", "n_demos", "reroute")
NAMES = {"accuracy": ("mean", "spread"), "kl": ("kl", "kl_spread")}


def key(line, domains):
    """What belongs to one row: the others' sets count as one."""
    found = {axis: line.get(axis) for axis in AXES}
    return tuple(
        {**found, "shown": "others"}.values() if found["shown"] in domains else found.values()
    )


@pytest.mark.parametrize("measure", NAMES)
def test_means_of_committed_results_follow_from_their_cells(root, measure):
    """Draw by draw the mean over domains, then mean and spread of those; in plain steps."""
    name, spread = NAMES[measure]
    checked = 0
    for file in sorted((root / "eval" / "results").glob("*.json")):
        value = json.loads(file.read_text())
        if "cells" not in value or name not in value["summary"][0]:
            continue
        domains = value["study"]["domains"]
        runs = {}
        for one in value["cells"]:
            run = runs.setdefault(key(one, domains), {}).setdefault(
                (one["seed"], one.get("draw")), {}
            )
            run.setdefault(one["domain"], []).append(one[measure])
        for line in value["summary"]:
            means = [
                sum(mean(run[domain]) for domain in domains) / len(domains)
                for run in runs[key(line, domains)].values()
            ]
            assert line[name] == pytest.approx(mean(means))
            if len(means) > 1:
                assert line[spread] == pytest.approx(stdev(means), abs=1e-12)
            checked += 1
    assert checked > 50
