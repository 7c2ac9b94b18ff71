"""What a study measured, cell by cell and in rows."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from easyep.study.design import Study


@dataclass(frozen=True)
class Cell:
    """One pruned model (or the full one) on one domain's task.

    Attributes:
        criterion: its name; ``"full"`` is the unpruned model.
        domain: what it is evaluated on.
        keep: experts per layer.
        groups: the group mode.
        seed: of the criterion.
        bytes: size of the checkpoint's tensors.
        accuracy: in [0, 1].
        samples: items evaluated.
    """

    criterion: str
    domain: str
    keep: int
    groups: str
    seed: int
    bytes: int
    accuracy: float
    samples: int


def summarise(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """One row per criterion, budget and group mode: the mean over domains.

    Where there are several seeds, `spread` is the standard deviation of the seeds' means.
    """
    rows: dict[tuple[str, int, str], dict[int, dict[str, Cell]]] = {}
    for cell in cells:
        row = rows.setdefault((cell.criterion, cell.keep, cell.groups), {})
        row.setdefault(cell.seed, {})[cell.domain] = cell
    summary = []
    for (criterion, keep, groups), seeds in rows.items():
        means = [mean(cell.accuracy for cell in by_domain.values()) for by_domain in seeds.values()]
        domains = next(iter(seeds.values()))
        summary.append(
            {
                "criterion": criterion,
                "keep": keep,
                "groups": groups,
                "mean": mean(means),
                "spread": stdev(means) if len(means) > 1 else None,
                "domains": {
                    domain: mean(by_domain[domain].accuracy for by_domain in seeds.values())
                    for domain in domains
                },
                "bytes": max(cell.bytes for cell in domains.values()),
            }
        )
    return summary


def to_json(study: Study, cells: Iterable[Cell]) -> dict[str, Any]:
    """Everything that a study measured."""
    cells = list(cells)
    return {
        "schema": 1,
        "study": asdict(study),
        "summary": summarise(cells),
        "cells": [asdict(cell) for cell in cells],
    }
