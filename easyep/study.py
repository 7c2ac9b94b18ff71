"""Many pruned models from one calibration per domain, each evaluated: who keeps what."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from easyep import calibration, pipeline, scoring
from easyep.artifacts import Observations, Scores, Selection
from easyep.artifacts.files import read_json, write_json
from easyep.errors import ArtifactError
from easyep.evaluation.accuracy import Accuracy, evaluate_checkpoint
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.registry import unknown_name
from easyep.selection import select
from easyep.source import Source

WRONG = "wrong domain"


@dataclass(frozen=True)
class Study:
    """What is compared: every criterion x budget x group mode x domain.

    Attributes:
        study: its title.
        model: a directory, a short name, or a repository id.
        domains: each is calibrated on, and evaluated by its own task.
        tasks: the name of a domain's task, with ``{domain}`` in it.
        criteria: names of `easyep list criteria`.
        keep: budgets as in `Recipe`.
        groups: group modes.
        seeds: for the criterion ``random``; the others have no use for more than one.
        wrong_domain: also evaluate the first criterion's choice for the next domain in the list
            (the last one's next is the first).
        limit: only the first so many items of each task; None takes all.
        dtype, n_demos, seed, batch_size, device: as in `Recipe`; `batch_size` also for evaluation.
    """

    study: str
    model: str
    domains: tuple[str, ...]
    tasks: str
    criteria: tuple[str, ...] = ("easy-ep",)
    keep: tuple[float, ...] = (0.5,)
    groups: tuple[str, ...] = ("balanced",)
    seeds: tuple[int, ...] = (0,)
    wrong_domain: bool = False
    limit: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    n_demos: int = 25
    seed: int = 0
    batch_size: int = 16

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> "Study":
        """Raises UnknownNameError or ArtifactError where the value is no study."""
        names = [f.name for f in fields(cls)]
        for key in value:
            if key not in names:
                raise unknown_name("study key", str(key), names)
        for key in ("study", "model", "domains", "tasks"):
            if not value.get(key):
                raise ArtifactError(f"a study needs {key!r}")
        if value.get("wrong_domain") and len(value["domains"]) < 2:
            raise ArtifactError("with 'wrong_domain' a study needs at least two domains")
        choices: dict[str, Any] = {
            key: tuple(item) if isinstance(item, list) else item for key, item in value.items()
        }
        return cls(**choices)


@dataclass(frozen=True)
class Cell:
    """One pruned model (or the full one) on one domain's task.

    Attributes:
        criterion: its name, ``"full"`` for the unpruned model, or `WRONG`.
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


def run(
    study: Study, *, work_dir: Path | None = None, progress: Progress = SILENT
) -> tuple[Cell, ...]:
    """Calibrate once per domain, then prune and evaluate every combination.

    Args:
        study: what is compared.
        work_dir: where observations and finished evaluations are kept; the same study goes on
            from there.

    Raises:
        EasyEPError: a subclass says what is wrong.
    """
    source = Source.open(study.model)
    recipe = Recipe(
        model=study.model,
        domain=study.domains,
        dtype=study.dtype,
        device=study.device,
        n_demos=study.n_demos,
        seed=study.seed,
        batch_size=study.batch_size,
    )
    observed = dict(
        zip(
            study.domains,
            calibration.calibrate(recipe, source, work_dir=work_dir, progress=progress),
            strict=True,
        )
    )
    planned = list(_planned(study, observed))
    cells = []
    with progress.task(
        "Pruning and evaluating", len(study.domains) + len(planned), "models"
    ) as bar:
        evaluator = _Evaluator(study, source, work_dir)
        for domain in study.domains:
            accuracy, size = evaluator.full(domain)
            experts = source.router.num_experts
            cells.append(_cell("full", domain, experts, "original", 0, size, accuracy))
            bar.advance()
        for criterion, seed, domain, selection in planned:
            accuracy, size = evaluator.pruned(selection, domain)
            cells.append(
                _cell(criterion, domain, selection.keep, selection.groups, seed, size, accuracy)
            )
            bar.advance()
    return tuple(cells)


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


def _planned(
    study: Study, observed: Mapping[str, Observations]
) -> Iterator[tuple[str, int, str, Selection]]:
    """Every (criterion, seed, evaluated domain, selection) of the study."""
    domains = study.domains
    for criterion in study.criteria:
        for seed in study.seeds if criterion == "random" else (study.seed,):
            scores: dict[str, Scores] = {
                domain: scoring.score(observed[domain], criterion, seed=seed) for domain in domains
            }
            for keep in study.keep:
                for groups in study.groups:
                    for i, domain in enumerate(domains):
                        yield criterion, seed, domain, select(scores[domain], keep, groups=groups)
                        if study.wrong_domain and criterion == study.criteria[0]:
                            other = scores[domains[(i + 1) % len(domains)]]
                            yield WRONG, seed, domain, select(other, keep, groups=groups)


class _Evaluator:
    """Prunes, evaluates, and remembers: equal selections are evaluated once."""

    def __init__(self, study: Study, source: Source, work_dir: Path | None) -> None:
        self._study = study
        self._source = source
        self._known = work_dir and work_dir / "evaluations"

    def full(self, domain: str) -> tuple[Accuracy, int]:
        size = sum(tensor.end - tensor.begin for tensor in self._source.checkpoint.tensors.values())
        key = {"model": self._source.identity.to_json()}
        return self._remember(key, domain, lambda: (self._source.model.path, size))

    def pruned(self, selection: Selection, domain: str) -> tuple[Accuracy, int]:
        with tempfile.TemporaryDirectory(prefix="easyep-study-") as folder:

            def write() -> tuple[Path, int]:
                done = pipeline.rewrite(self._study.model, selection, Path(folder) / "pruned")
                return done.path, done.bytes_after

            return self._remember(selection.to_json(), domain, write)

    def _remember(self, key: Mapping[str, Any], domain: str, write: Any) -> tuple[Accuracy, int]:
        task = self._study.tasks.format(domain=domain)
        made_from = {
            **key,
            "criterion": "",  # the same experts are the same model, whoever chose them
            "task": task,
            "limit": self._study.limit,
            "dtype": self._study.dtype,
        }
        digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
        file = self._known and self._known / f"{task}-{digest}.json"
        if file and file.exists():
            value = read_json(file, "evaluation")
            return Accuracy.from_json(value["accuracy"]), value["bytes"]
        path, size = write()
        accuracy = evaluate_checkpoint(
            path,
            [task],
            dtype=self._study.dtype,
            device=self._study.device,
            batch_size=self._study.batch_size,
            limit=self._study.limit,
        )
        if file:
            write_json(file, {"accuracy": accuracy.to_json(), "bytes": size})
        return accuracy, size


def _cell(
    criterion: str, domain: str, keep: int, groups: str, seed: int, size: int, accuracy: Accuracy
) -> Cell:
    result = accuracy.results[0]
    return Cell(criterion, domain, keep, groups, seed, size, result.value, result.samples)
