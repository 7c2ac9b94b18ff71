"""One HTML file: what was gathered, told part by part."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from easyep.atomic import check_file, write_bytes
from easyep.checkpoint.side_files import MODEL_CARD
from easyep.choices import several, text
from easyep.errors import ArtifactError
from easyep.gathering import gather
from easyep.places import outside_checkpoints, result_file
from easyep.presenting import agreement, choice, results
from easyep.presenting import card as model_card
from easyep.presenting.told import Told
from easyep.progress import SILENT, Progress
from easyep.reporting import page
from easyep.reporting.drawing import check_drawing, save_figure

PathLike = str | os.PathLike[str]

_PARTS: Sequence[Callable[[Told], None]] = (
    choice.kept,
    agreement.agreement,
    results.studies,
    results.accuracies,
    results.comparisons,
    results.costs,
    choice.origin,
)


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: the page.
        figures: titles of the figures in it.
        left_out: what a report can show and this one does not, and why.
        files: figures that were written as files.
    """

    path: Path
    figures: tuple[str, ...]
    left_out: dict[str, str]
    files: tuple[Path, ...] = ()


def report(
    *paths: PathLike | Sequence[PathLike],
    output: PathLike,
    figures: PathLike | None = None,
    card: PathLike | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Write one HTML file about a pruned checkpoint, work directories, results; it needs no other.

    Args:
        paths: a pruned checkpoint, work directories, files that `easyep run`, `stability`,
            `eval`, `compare` or `bench` wrote: what they hold is told together.
        output: the HTML file.
        figures: a folder for each figure as .png and .svg.
        card: a file for the checkpoint's model card with what was measured on it; its own
            `README.md` is replaced only where that is this file.

    Raises:
        ArtifactError: nothing of easyep's is there, or no checkpoint for a card.
        MissingDependencyError: matplotlib is not installed.
        OutputError: a file cannot be written.
    """
    check_drawing()
    named = [path for each in paths for path in several(text)("paths", each)]
    if not named:
        raise ArtifactError("a report is about something: give a checkpoint, folder or result")
    given = [path for path in named if os.path.isfile(path)]  # noqa: PTH113 (Path's may raise)
    result_file(output, given)
    if card is not None and Path(card).name == MODEL_CARD:
        check_file(card)
    elif card is not None:
        result_file(card, given)
    if figures is not None:
        outside_checkpoints(Path(figures) / "figure")
    told = Told(gather(named))
    card_text = model_card.card(told) if card is not None else ""
    with progress.task("Drawing", len(_PARTS), "parts") as task:
        for part in _PARTS:
            part(told)
            task.advance()
    sections = [told.summary(), *told.sections, told.absent()]
    drawn = [figure for section in sections for figure in section.figures]
    write_bytes(output, page.render(told.title, sections).encode())
    if card is not None:
        write_bytes(card, card_text.encode())
    files = []
    if figures is not None:
        for number, each in enumerate(drawn, 1):
            for ending in ("png", "svg"):
                files.append(Path(figures) / f"{number:02d}-{each.name}.{ending}")
                save_figure(each.figure, files[-1])
    titles = tuple(each.title for each in drawn)
    return Report(Path(output), titles, told.left_out, tuple(files))
