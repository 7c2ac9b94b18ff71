"""Calibrates once per domain, then prunes and evaluates every combination."""

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from easyep.artifacts import Selection
from easyep.criteria import needs_record
from easyep.diffusion import check_predicts
from easyep.errors import SelectionError
from easyep.evaluation import tasks
from easyep.places import PathLike, work_directory
from easyep.progress import SILENT, Progress
from easyep.selection import keep_count, select
from easyep.source import Source
from easyep.study.design import Study
from easyep.study.evaluations import Evaluations
from easyep.study.held_out import read_held_out
from easyep.study.shown import Shown
from easyep.study.summary import Cell

WRONG = "wrong domain"


@dataclass(frozen=True)
class _Case:
    """One choice of experts, and the domain that it is evaluated on; fields as in `Cell`."""

    criterion: str
    domain: str
    shown: str
    n_demos: int
    draw: int
    seed: int
    selection: Selection


def run(
    study: Study, *, work_dir: PathLike | None = None, progress: Progress = SILENT
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
    work = work_directory(work_dir, source.model.path) if work_dir is not None else None
    if study.held_out is not None:
        check_predicts(source)
    for domain in study.domains:
        if study.tasks is not None:
            tasks.fingerprint(study.task(domain))
        else:
            read_held_out(study.task(domain))
    budgets = _budgets(study, source)
    with tempfile.TemporaryDirectory(prefix="easyep-study-") as folder:
        shown = Shown(study, source, Path(folder), work, progress)
        planned = list(_planned(study, shown, budgets))
    cells = []
    total = len(study.domains) + len(planned) * len(study.reroute)
    with progress.task("Pruning and evaluating", total, "models") as bar:
        evaluations = Evaluations(study, source, work and work / "evaluations")
        for domain in study.domains:
            found = evaluations.full(domain)
            experts = source.router.num_experts
            cells.append(Cell("full", domain, experts, "original", 0, **found))
            bar.advance()
        for case, reroute in itertools.product(planned, study.reroute):
            found = evaluations.pruned(case.selection, case.domain, reroute=reroute)
            chosen = case.selection
            cells.append(
                Cell(
                    case.criterion,
                    case.domain,
                    chosen.keep,
                    chosen.groups,
                    case.seed,
                    shown=case.shown,
                    n_demos=case.n_demos,
                    draw=case.draw,
                    reroute=reroute,
                    **found,
                )
            )
            bar.advance()
    return tuple(cells)


def _budgets(study: Study, source: Source) -> list[tuple[float, str]]:
    """(keep, groups) that the router can work with; SelectionError where a budget has none."""
    found = []
    for keep in study.keep:
        objections = []
        for groups in study.groups:
            try:
                keep_count(keep, source.router, groups=groups)
            except SelectionError as error:
                objections.append(error)
            else:
                found.append((keep, groups))
        if len(objections) == len(study.groups):
            raise objections[0]
    return found


def _planned(study: Study, shown: Shown, budgets: list[tuple[float, str]]) -> Iterator[_Case]:
    """Every choice of the study. What does not look at the record has no use for several."""
    for criterion in study.criteria:
        looks = needs_record(criterion)
        seeds = study.seeds if criterion == "random" else study.draws[:1]
        for kind, number, draw, seed in itertools.product(
            study.shown if looks else study.shown[:1],
            study.n_demos if looks else study.n_demos[:1],
            study.draws if looks else study.draws[:1],
            seeds,
        ):
            scored = list(shown.scores(criterion, kind, number, draw, seed))
            own = {domain: scores for _, domain, scores in scored}
            for keep, groups in budgets:
                for name, domain, scores in scored:
                    selection = select(scores, keep, groups=groups)
                    yield _Case(criterion, domain, name, number, draw, seed, selection)
                if study.wrong_domain and criterion == study.criteria[0] and kind == "own":
                    following = (*study.domains[1:], study.domains[0])
                    for domain, other in zip(study.domains, following, strict=True):
                        selection = select(own[other], keep, groups=groups)
                        yield _Case(WRONG, domain, kind, number, draw, seed, selection)
