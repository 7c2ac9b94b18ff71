"""Calibrates once per domain, then prunes and evaluates every combination."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from easyep import calibration, scoring
from easyep.artifacts import Observations, Selection
from easyep.evaluation import tasks
from easyep.evaluation.accuracy import Accuracy
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.selection import keep_count, select
from easyep.source import Source
from easyep.study.design import Study
from easyep.study.evaluations import Evaluations
from easyep.study.summary import Cell

WRONG = "wrong domain"


def run(
    study: Study, *, work_dir: Path | None = None, progress: Progress = SILENT
) -> tuple[Cell, ...]:
    """Carry a study out.

    Args:
        study: what is compared.
        work_dir: where observations and finished evaluations are kept; the same study goes on
            from there.

    Raises:
        EasyEPError: a subclass says what is wrong.
    """
    source = Source.open(study.model)
    for domain in study.domains:
        tasks.fingerprint(study.task(domain))
    for keep in study.keep:
        for groups in study.groups:
            keep_count(keep, source.router, groups=groups)
    recipe = Recipe(
        model=study.model,
        domain=study.domains,
        dtype=study.dtype,
        device=study.device,
        n_demos=study.n_demos,
        seed=study.seed,
        batch_size=study.batch_size,
    )
    seen = calibration.calibrate(
        recipe, source, criteria=study.criteria, work_dir=work_dir, progress=progress
    )
    planned = list(_planned(study, source, dict(zip(study.domains, seen, strict=True))))
    cells = []
    total = len(study.domains) + len(planned)
    with progress.task("Pruning and evaluating", total, "models") as bar:
        evaluations = Evaluations(study, source, work_dir and work_dir / "evaluations")
        for domain in study.domains:
            accuracy, size = evaluations.full(domain)
            experts = source.router.num_experts
            cells.append(_cell("full", domain, experts, "original", 0, size, accuracy))
            bar.advance()
        for criterion, seed, domain, selection in planned:
            accuracy, size = evaluations.pruned(selection, domain)
            cells.append(
                _cell(criterion, domain, selection.keep, selection.groups, seed, size, accuracy)
            )
            bar.advance()
    return tuple(cells)


def _planned(
    study: Study, source: Source, observed: Mapping[str, Observations]
) -> Iterator[tuple[str, int, str, Selection]]:
    """Every (criterion, seed, evaluated domain, selection) of the study."""
    domains = study.domains
    for criterion in study.criteria:
        for seed in study.seeds if criterion == "random" else (study.seed,):
            scores = {
                d: scoring.score(observed[d], criterion, model=source, seed=seed) for d in domains
            }
            for keep in study.keep:
                for groups in study.groups:
                    for i, domain in enumerate(domains):
                        yield criterion, seed, domain, select(scores[domain], keep, groups=groups)
                        if study.wrong_domain and criterion == study.criteria[0]:
                            other = scores[domains[(i + 1) % len(domains)]]
                            yield WRONG, seed, domain, select(other, keep, groups=groups)


def _cell(
    criterion: str, domain: str, keep: int, groups: str, seed: int, size: int, accuracy: Accuracy
) -> Cell:
    result = accuracy.results[0]
    return Cell(criterion, domain, keep, groups, seed, size, result.value, result.samples)
