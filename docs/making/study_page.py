"""Fills the tables of `docs/study.md` from `eval/results/`, and draws its figures.

python docs/making/study_page.py
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from easyep.atomic import write_bytes
from easyep.reporting import study_figures, study_pairs, study_table
from easyep.reporting.drawing import style

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "study.md"
RESULTS = "eval/results"
TABLES = {
    "accuracy": study_table.accuracies,
    "KL": study_table.divergences,
    "KL by criterion": study_pairs.by_criterion,
    "KL by groups": study_pairs.by_groups,
    "KL by shown": study_pairs.by_shown,
    "KL by rerouting": study_pairs.by_rerouting,
    "by domain": study_table.by_domain,
}
# Figure -> the result that it shows.
FIGURES = {
    "study-criteria.png": "2026-11-23-demo-budgets.json",
    "study-demonstrations.png": "2026-11-23-demo-demonstrations.json",
    "study-domains.png": "2026-11-23-demo-domains.json",
    "study-kinds.png": "2026-11-23-demo-kinds.json",
    "study-rerouting.png": "2026-11-23-demo-rerouting.json",
    "study-large.png": "2026-11-23-large.json",
    "study-large-shown.png": "2026-11-23-large-shown.json",
}
_MARKED = re.compile(r"(<!-- (.+?): (\S+\.json) -->\n)(.*?)(<!-- end -->)", re.S)


def filled(text: str) -> str:
    """The page with its tables as the results say."""

    def table(found: re.Match[str]) -> str:
        start, kind, file, _, end = found.groups()
        return f"{start}{TABLES[kind](json.loads((ROOT / file).read_bytes()))}\n{end}"

    return _MARKED.sub(table, text)


def figures() -> Iterator[tuple[Path, bytes]]:
    """Each figure's file and its bytes, which hold `mark`."""
    for name, file in FIGURES.items():
        (drawn,) = study_figures.drawn(json.loads((ROOT / RESULTS / file).read_bytes()))
        data = io.BytesIO()
        with style():
            drawn.figure.savefig(
                data, format="png", dpi=150, facecolor="white", metadata={"Source": mark(name)}
            )
        yield PAGE.parent / name, data.getvalue()


def mark(figure: str) -> str:
    """What tells that a figure was drawn from a result as it is now."""
    file = FIGURES[figure]
    return f"{file} {hashlib.sha256((ROOT / RESULTS / file).read_bytes()).hexdigest()}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for path, content in figures():
        write_bytes(path, content)
