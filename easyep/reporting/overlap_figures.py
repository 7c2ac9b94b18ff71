"""Figures of how much choices agree: between domains, between criteria."""

from collections.abc import Sequence
from typing import Any

from easyep.reporting.drawing import Drawn, new_figure, short, style


def overlaps(
    name: str, what: str, names: Sequence[str], values: Sequence[Sequence[float]], chance: float
) -> Drawn:
    """A matrix of shared experts, as shares in [0, 1] of those kept.

    Args:
        name: of the figure's file.
        what: what the rows are, "domains".
        names: of the rows.
        values: [n, n], 1 on the diagonal.
        chance: what two random choices share.
    """
    with style():
        words = 0.06 * max(len(short(name)) for name in names)
        size = 0.7 + words + 0.48 * len(names)
        figure = new_figure(min(9.0, size + 0.5), min(8.5, size))
        draw_matrix(figure.subplots(), names, values)
    return Drawn(
        name,
        f"Overlap between {what}",
        f"Experts that two choices share, in % of those kept, mean over the layers. By chance: "
        f"{100 * chance:.0f}.",
        figure,
    )


def draw_matrix(axes: Any, names: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    """A matrix of shares with its numbers."""
    axes.grid(False)
    percent = [[100 * value for value in row] for row in values]
    axes.imshow(percent, cmap="cividis", vmin=0, vmax=100)
    for i, row in enumerate(percent):
        for j, value in enumerate(row):
            colour = "black" if value > 55 else "white"
            axes.text(j, i, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    labels = [short(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), labels)
