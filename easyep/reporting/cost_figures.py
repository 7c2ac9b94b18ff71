"""Figures of what pruning saves: memory, throughput."""

from collections.abc import Mapping, Sequence
from typing import Any

from easyep.reporting.drawing import (
    COLOURS,
    INK,
    MARKERS,
    Drawn,
    log_heights,
    new_figure,
    short,
    style,
)


def memory(parts: Mapping[str, tuple[int, int]]) -> Drawn:
    """Bytes of the checkpoint's tensors before and after, by what they are for.

    Args:
        parts: name -> bytes before, bytes after.
    """
    with style():
        figure = new_figure(7.5, 2.1)
        axes = figure.subplots()
        axes.grid(False, axis="y")
        scale, unit = _unit(sum(before for before, _ in parts.values()))
        left = [0.0, 0.0]
        for number, (name, sizes) in enumerate(parts.items()):
            widths = [size / scale for size in sizes]
            colour = COLOURS[number % len(COLOURS)]
            axes.barh(["before", "after"], widths, left=left, color=colour, label=name)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for place, total in enumerate(left):
            axes.annotate(
                f"{total:.1f} {unit}",
                (total, place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontweight="bold",
            )
        axes.invert_yaxis()
        axes.set_xlim(0, 1.15 * max(left))
        axes.set_xlabel(unit)
        axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.35))
    return Drawn(
        "memory",
        "Memory before and after",
        "Bytes of the tensors in the checkpoint; before: with the experts that were dropped. A "
        "layer that was left out altogether is in neither. A cache of keys and values comes on "
        "top, the same for both.",
        figure,
    )


def throughput(results: Sequence[Mapping[str, Any]], rate: str = "output_throughput") -> Drawn:
    """Tokens per second against the batch, a line per model and lengths.

    Args:
        results: points as `easyep bench` writes them; a point may hold ``predicted_`` + `rate`.
        rate: which of their rates.
    """
    with style():
        figure = new_figure(8.0, 4.0)
        axes = figure.subplots()
        lines: dict[tuple[str, int, int], list[Mapping[str, Any]]] = {}
        for point in results:
            key = (point["model"], point["random_input_len"], point["random_output_len"])
            lines.setdefault(key, []).append(point)
        for number, (key, points) in enumerate(lines.items()):
            measured = [p for p in points if p.get(rate) is not None]
            measured.sort(key=lambda p: p["max_concurrency"])
            colour = COLOURS[number % len(COLOURS)]
            batches = [p["max_concurrency"] for p in measured]
            axes.errorbar(
                batches,
                [p[rate] for p in measured],
                yerr=[p.get(f"std_{rate}") or 0 for p in measured],
                color=colour,
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                capsize=2,
                label=f"{short(str(key[0]))}, {key[1]}+{key[2]}",
            )
            roof = [(p["max_concurrency"], p.get(f"predicted_{rate}")) for p in measured]
            if roof and all(value is not None for _, value in roof):
                axes.plot(*zip(*roof, strict=True), color=colour, linestyle="--", linewidth=1)
        axes.set_xscale("log", base=2)
        log_heights(axes)
        ticks = sorted({p["max_concurrency"] for p in results})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.minorticks_off()
        axes.set(xlabel="requests at a time", ylabel="output tokens per second")
        axes.legend(title="model, input + output tokens", title_fontsize=8)
        axes.tick_params(colors=INK)
    return Drawn(
        "throughput",
        "Throughput against batch",
        "Medians of the rounds with their standard deviation; dashed, where there is one: the "
        "roofline's prediction.",
        figure,
    )


def _unit(size: float) -> tuple[float, str]:
    for scale, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= scale:
            return scale, name
    return 1e3, "kB"
