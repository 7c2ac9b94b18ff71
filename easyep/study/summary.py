"""What a study measured, cell by cell and in rows."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from easyep.study.design import Study

# What tells the rows of a summary apart; the full model has the values of no pruned one.
AXES = ("criterion", "keep", "groups", "shown", "n_demos", "reroute")
_LIKENESS = ("agreement", "kl", "loss")


@dataclass(frozen=True)
class Cell:
    """One pruned model (or the full one) on one domain.

    Attributes:
        criterion: its name; ``"full"`` is the unpruned model.
        domain: what it is evaluated on.
        keep: experts per layer.
        groups: the group mode.
        seed: of the criterion.
        bytes: size of the checkpoint's tensors.
        accuracy: in [0, 1]: of the task, or as in `held_out`.
        samples: items evaluated.
        shown: what was shown, as in `design.SHOWN`, or the other domain's name.
        n_demos, draw: how many demonstrations per domain, and the seed of their choice.
        reroute: whether the router chose among the kept experts.
        agreement, kl, loss: as in `held_out`; None where a task was evaluated.
    """

    criterion: str
    domain: str
    keep: int
    groups: str
    seed: int
    bytes: int
    accuracy: float
    samples: int
    shown: str = ""
    n_demos: int = 0
    draw: int = 0
    reroute: bool = True
    agreement: float | None = None
    kl: float | None = None
    loss: float | None = None


def summarise(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """One row per combination of `AXES`: the mean over domains.

    Where there are several seeds or draws, `spread` is the standard deviation of their means. With
    other domains shown, those are averaged for each domain first.
    """
    rows: dict[tuple[Any, ...], dict[tuple[int, int], dict[str, list[Cell]]]] = {}
    cells = list(cells)
    domains = {cell.domain for cell in cells}
    for cell in cells:
        shown = "others" if cell.shown in domains else cell.shown
        key = tuple(shown if axis == "shown" else getattr(cell, axis) for axis in AXES)
        run = rows.setdefault(key, {}).setdefault((cell.seed, cell.draw), {})
        run.setdefault(cell.domain, []).append(cell)
    return [_row(key, list(runs.values())) for key, runs in rows.items()]


def _row(key: tuple[Any, ...], runs: list[dict[str, list[Cell]]]) -> dict[str, Any]:
    means = [_over_domains(run, "accuracy") for run in runs]
    first = runs[0]
    row = {
        **dict(zip(AXES, key, strict=True)),
        "mean": mean(means),
        "spread": stdev(means) if len(means) > 1 else None,
        "domains": {
            domain: mean(mean(cell.accuracy for cell in run[domain]) for run in runs)
            for domain in first
        },
        "bytes": max(cell.bytes for several in first.values() for cell in several),
    }
    if all(cell.kl is not None for run in runs for several in run.values() for cell in several):
        for measure in _LIKENESS:
            each = [_over_domains(run, measure) for run in runs]
            row[measure] = mean(each)
            row[f"{measure}_spread"] = stdev(each) if len(each) > 1 else None
    return row


def _over_domains(run: dict[str, list[Cell]], measure: str) -> float:
    each = [[float(getattr(cell, measure)) for cell in several] for several in run.values()]
    return mean(map(mean, each))


def to_json(study: Study, cells: Iterable[Cell]) -> dict[str, Any]:
    """Everything that a study measured."""
    cells = list(cells)
    return {
        "schema": 1,
        "study": asdict(study),
        "summary": summarise(cells),
        "cells": [asdict(cell) for cell in cells],
    }
