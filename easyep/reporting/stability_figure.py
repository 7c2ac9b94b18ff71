"""The figure of a study of stability: overlap by number of demonstrations, and between sets."""

import os
from collections.abc import Mapping
from typing import Any

from easyep.reporting.drawing import (
    COLOURS,
    INK,
    MARKERS,
    Drawn,
    new_figure,
    save_figure,
    short,
    style,
)
from easyep.reporting.overlap_figures import draw_matrix


def stability_figure(found: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw what `easyep stability` found.

    Args:
        found: the JSON of the study.
        path: a .png, .svg or .pdf file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file cannot be written, or has another format.
    """
    save_figure(drawn(found).figure, path)


def drawn(found: Mapping[str, Any]) -> Drawn:
    """One row per budget.

    Left the overlap with what the whole set keeps against the number of demonstrations, with the
    standard deviation over samples; right the overlap between sets, where there are several.
    """
    sets = [each["name"] for each in found["sets"]]
    columns = 2 if len(sets) > 1 else 1
    with style():
        figure = new_figure(5.2 * columns, 3.9 * len(found["keep"]))
        grid = figure.subplots(len(found["keep"]), columns, squeeze=False)
        for row, keep in enumerate(found["keep"]):
            _by_number(grid[row][0], found, keep, sets)
            if columns == 2:
                _between(grid[row][1], found, keep, sets)
        figure.suptitle(f"Stability of the kept experts, by {found['criterion']}")
    return Drawn(
        "stability",
        "Stability against the number of demonstrations",
        "Overlap with what the whole set keeps, mean and standard deviation over samples; beside "
        "it the overlap between sets, in %.",
        figure,
    )


def _by_number(axes: Any, found: Mapping[str, Any], keep: int, sets: list[str]) -> None:
    for place, name in enumerate(sets):
        rows = [r for r in found["by_number"] if (r["set"], r["keep"]) == (name, keep)]
        axes.errorbar(
            [r["demos"] for r in rows],
            [100 * r["overlap"] for r in rows],
            yerr=[100 * r["spread"] for r in rows],
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=4,
            linewidth=1.5,
            capsize=2,
            label=short(name),
        )
    chance = 100 * keep / found["num_experts"]
    axes.axhline(chance, color=INK, alpha=0.5, linewidth=1, linestyle=":")
    axes.annotate("by chance", (1, chance), xytext=(0, 3), textcoords="offset points", fontsize=8)
    numbers = sorted({r["demos"] for r in found["by_number"]})
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.minorticks_off()
    axes.set_ylim(0, 103)
    axes.set_xlabel("demonstrations")
    axes.set_ylabel("overlap with the whole set, %")
    axes.set_title(f"{keep} of {found['num_experts']} experts kept", fontsize=10)
    axes.legend(fontsize=8, loc="lower right")


def _between(axes: Any, found: Mapping[str, Any], keep: int, sets: list[str]) -> None:
    size = len(sets)
    values = [[1.0] * size for _ in range(size)]
    for pair in found["between"]:
        if pair["keep"] == keep:
            i, j = (sets.index(name) for name in pair["sets"])
            values[i][j] = values[j][i] = pair["overlap"]
    draw_matrix(axes, sets, values)
    axes.set_title("overlap between sets, %", fontsize=10)
