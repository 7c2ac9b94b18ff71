"""The figure of a study of stability: overlap by number of demonstrations, and between sets."""

import io
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from easyep.atomic import write_bytes
from easyep.errors import MissingDependencyError, OutputError

FORMATS = ("png", "svg", "pdf")


def check_figure(path: str | os.PathLike[str]) -> None:
    """Raises what would stop `stability_figure`: no matplotlib, or a file of another format."""
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("figures need matplotlib: pip install 'easyep[figures]'")
    if Path(path).suffix.lstrip(".").lower() not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        raise OutputError(f"a figure's file ends in one of {endings}, not {path}")


def stability_figure(found: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw what `easyep stability` found.

    One row per budget: left the overlap with what the whole set keeps against the number of
    demonstrations, with the standard deviation over samples; right the overlap between sets,
    where there are several.

    Args:
        found: the JSON of the study.
        path: a .png, .svg or .pdf file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file cannot be written, or has another format.
    """
    check_figure(path)
    from matplotlib.figure import Figure

    sets = [each["name"] for each in found["sets"]]
    columns = 2 if len(sets) > 1 else 1
    figure = Figure(figsize=(5.2 * columns, 3.9 * len(found["keep"])), layout="constrained")
    grid = figure.subplots(len(found["keep"]), columns, squeeze=False)
    for row, keep in enumerate(found["keep"]):
        _by_number(grid[row][0], found, keep, sets)
        if columns == 2:
            _between(grid[row][1], found, keep, sets)
    figure.suptitle(f"Stability of the kept experts, by {found['criterion']}")
    data = io.BytesIO()
    figure.savefig(data, format=Path(path).suffix.lstrip(".").lower(), dpi=150)
    write_bytes(path, data.getvalue())


def _by_number(axes: Any, found: Mapping[str, Any], keep: int, sets: list[str]) -> None:
    for name in sets:
        rows = [r for r in found["by_number"] if (r["set"], r["keep"]) == (name, keep)]
        axes.errorbar(
            [r["demos"] for r in rows],
            [100 * r["overlap"] for r in rows],
            yerr=[100 * r["spread"] for r in rows],
            marker="o",
            markersize=4,
            linewidth=1.5,
            capsize=2,
            label=name,
        )
    chance = 100 * keep / found["num_experts"]
    axes.axhline(chance, color="0.5", linewidth=1, linestyle=":")
    axes.annotate(
        "by chance", (1, chance), xytext=(0, 3), textcoords="offset points", color="0.4", fontsize=8
    )
    numbers = sorted({r["demos"] for r in found["by_number"]})
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.minorticks_off()
    axes.set_ylim(0, 103)
    axes.set_xlabel("demonstrations")
    axes.set_ylabel("overlap with the whole set, %")
    axes.set_title(f"{keep} of {found['num_experts']} experts kept", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")


def _between(axes: Any, found: Mapping[str, Any], keep: int, sets: list[str]) -> None:
    size = len(sets)
    values = [[100.0] * size for _ in range(size)]
    for pair in found["between"]:
        if pair["keep"] == keep:
            i, j = (sets.index(name) for name in pair["sets"])
            values[i][j] = values[j][i] = 100 * pair["overlap"]
    axes.imshow(values, cmap="Blues", vmin=0, vmax=100)
    for i in range(size):
        for j in range(size):
            color = "white" if values[i][j] > 60 else "black"
            axes.text(j, i, f"{values[i][j]:.0f}", ha="center", va="center", color=color)
    axes.set_xticks(range(size), sets, rotation=30, ha="right")
    axes.set_yticks(range(size), sets)
    axes.set_title("overlap between sets, %", fontsize=10)
