"""Figures of one selection: scores and kept experts, coverage, margins."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from easyep.reporting.drawing import COLOURS, INK, Drawn, new_figure, style

Layers = Mapping[int, npt.NDArray[np.float64]]
Kept = Mapping[int, Sequence[int]]  # layer -> the experts that stay
_DROPPED = (0.5, 0.5, 0.5)


def experts_by_layers(kept: Kept, num_experts: int, scores: Layers | None) -> Drawn:
    """Experts x layers: kept ones in colour, dropped ones in grey, deeper where scores are higher.

    Args:
        kept: layer -> experts that stay.
        num_experts: E.
        scores: layer -> [E]; without them kept and dropped ones have one colour each.
    """
    with style():
        import matplotlib as mpl

        layers = sorted(kept)
        height = min(9.0, 1.6 + 0.22 * len(layers))
        figure = new_figure(9.0, height)
        axes = figure.subplots()
        axes.grid(False)
        image = np.zeros((len(layers), num_experts, 4))
        colours = mpl.colormaps["viridis"]
        for row, layer in enumerate(layers):
            level = np.ones(num_experts) if scores is None else _levels(scores[layer])
            stays = np.isin(np.arange(num_experts), list(kept[layer]))
            bright = colours(0.15 + 0.8 * level) if scores is not None else colours(level * 0.5)
            image[row] = bright
            image[row, ~stays, :3] = _DROPPED
            image[row, ~stays, 3] = 0.08 + (0.5 * level[~stays] if scores is not None else 0.1)
        axes.imshow(image, aspect="auto", interpolation="nearest")
        axes.set_xlabel("expert")
        axes.set_ylabel("layer")
        step = max(1, len(layers) // 16)
        axes.set_yticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]])
        if num_experts * len(layers) <= 2048:
            _outline(axes, layers, kept)
        if scores is not None:
            norm = mpl.colors.Normalize(0, 100)
            shown = mpl.colors.LinearSegmentedColormap.from_list(
                "kept", colours(np.linspace(0.15, 0.95, 64))
            )
            bar = figure.colorbar(mpl.cm.ScalarMappable(norm, shown), ax=axes, pad=0.01)
            bar.set_label("kept: score, % of layer's best\n(square root scale)")
            bar.set_ticks([0, 20, 50, 100], labels=["0", "4", "25", "100"])
            bar.outline.set_visible(False)
    shades = "; the deeper, the higher its score" if scores is not None else ""
    return Drawn(
        "experts",
        "Kept experts by layer",
        f"Each cell is one routed expert. Colour: kept. Grey: dropped{shades}.",
        figure,
    )


def _levels(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    best = values.max()
    found: npt.NDArray[np.float64] = np.sqrt(np.clip(values / best, 0, 1)) if best > 0 else values
    return found


def _outline(axes: Any, layers: Sequence[int], kept: Kept) -> None:
    """A dot on every kept expert, for who does not see the colours."""
    points = [(expert, row) for row, layer in enumerate(layers) for expert in kept[layer]]
    axes.scatter(*zip(*points, strict=True), s=7, c="white", edgecolors="black", linewidths=0.5)


def coverage(scores: Layers, kept: Kept, retained: Mapping[int, float]) -> Drawn:
    """Left: share of a layer's score in its best N experts. Right: what the kept ones hold."""
    with style():
        figure = new_figure(9.0, 3.4)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        curves = []
        for layer in sorted(kept):
            values = np.sort(scores[layer])[::-1]
            total = values.sum()
            curve = 100 * np.cumsum(values) / total if total > 0 else np.zeros(len(values))
            curves.append(curve)
            left.plot(range(1, len(curve) + 1), curve, color=COLOURS[5], linewidth=0.8, alpha=0.7)
        mean = np.mean(curves, axis=0)
        left.plot(range(1, len(mean) + 1), mean, color=COLOURS[0], linewidth=2.2)
        number = len(next(iter(kept.values())))
        left.axvline(number, color=COLOURS[1], linewidth=1.2, linestyle="--")
        left.annotate(
            f"{number} kept", (number, 4), xytext=(5, 0), textcoords="offset points", fontsize=8
        )
        left.set(xlabel="best experts", ylabel="share of the layer's score, %", ylim=(0, 102))
        layers = sorted(retained)
        shares = [100 * retained[layer] for layer in layers]
        right.plot(layers, shares, color=COLOURS[1], marker="o", markersize=4)
        right.axhline(100 * number / len(mean), color=INK, alpha=0.5, linestyle=":")
        right.set(xlabel="layer", ylabel="share held by the kept, %", ylim=(0, 102))
        _whole_numbers(right.xaxis)
    return Drawn(
        "coverage",
        "Coverage of the score",
        "Left: a thin line per layer, their mean in bold; the best experts first. Right: what the "
        "kept experts hold; dotted: what as many would hold if all scored alike. The share is not "
        "an accuracy.",
        figure,
    )


def margins(found: Mapping[int, float]) -> Drawn:
    """How close the last kept and the first dropped expert are, layer by layer and as counts."""
    with style():
        figure = new_figure(9.0, 3.0)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        layers = sorted(found)
        values = [100 * found[layer] for layer in layers]
        left.bar(layers, values, color=COLOURS[2])
        left.set(xlabel="layer", ylabel="margin, %")
        _whole_numbers(left.xaxis)
        _whole_numbers(right.yaxis)
        right.hist(values, bins=min(20, max(4, len(values) // 2)), color=COLOURS[2])
        right.set(xlabel="margin, %", ylabel="layers")
        for axes in (left, right):
            axes.margins(y=0.1)
    return Drawn(
        "margins",
        "Margins of the decision",
        "The score of the last kept expert minus that of the first dropped one, over the larger of "
        "the two; with balanced groups the closest of the groups. Small margins are decisions that "
        "other demonstrations may turn around.",
        figure,
    )


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))
