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
from easyep.reporting.numbers import unit_of


def memory(parts: Mapping[str, tuple[int, int]]) -> Drawn:
    """Bytes of the checkpoint's tensors before and after, by what they are for.

    Args:
        parts: name -> bytes before, bytes after.
    """
    with style():
        figure = new_figure(7.5, 2.1)
        axes = figure.subplots()
        axes.grid(False, axis="y")
        scale, unit = unit_of(sum(before for before, _ in parts.values()))
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
        "Bytes of the tensors in the checkpoint; before: in its source. A cache of keys and values "
        "comes on top, the same for both.",
        figure,
    )


def throughput(found: Mapping[str, Any]) -> Drawn:
    """Tokens per second of decoding against the batch, a colour per model and lengths.

    Args:
        found: what `easyep bench` wrote: measurements at a fixed batch with the roofline behind
            them, or a prediction alone.
    """
    rate = "decode_throughput"
    fixed = found["fixed_batch"]
    if isinstance(fixed, Mapping):
        measured, roof = fixed["results"], found.get("roofline", {}).get("points", [])
    else:
        measured, roof = [], [{"model": f"{p['experts']} experts", **p} for p in fixed]
    with style():
        figure = new_figure(8.0, 4.0)
        axes = figure.subplots()
        keys = list(dict.fromkeys(map(_line, (*measured, *roof))))
        for number, key in enumerate(keys):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            label = f"{short(key[0])}, {key[1]}+{key[2]}"
            points = [p for p in measured if _line(p) == key and p.get(rate) is not None]
            points.sort(key=lambda p: float(p["max_concurrency"]))
            if points:
                axes.errorbar(
                    [p["max_concurrency"] for p in points],
                    [p[rate] for p in points],
                    yerr=[p.get(f"std_{rate}") or 0 for p in points],
                    color=colour,
                    marker=marker,
                    markersize=4,
                    capsize=2,
                    label=label,
                )
            above = sorted((p["max_concurrency"], p[rate]) for p in roof if _line(p) == key)
            if above:
                words = None if points else label
                axes.plot(*zip(*above, strict=True), "--", color=colour, linewidth=1, label=words)
        axes.set_xscale("log", base=2)
        log_heights(axes)
        ticks = sorted({p["max_concurrency"] for p in (*measured, *roof)})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.minorticks_off()
        axes.set(xlabel="requests at a time", ylabel="decode, tokens per second")
        axes.legend(title="model, input + output tokens", title_fontsize=8)
    return Drawn(
        "throughput",
        "Throughput against batch",
        "Decoding at a fixed batch: medians of the rounds with their standard deviation. Dashed: "
        "what the machine cannot exceed, by the roofline.",
        figure,
    )


def _line(point: Mapping[str, Any]) -> tuple[str, int, int]:
    return str(point["model"]), point["random_input_len"], point["random_output_len"]


def divergence(domains: Sequence[Mapping[str, Any]], first: str, second: str) -> Drawn:
    """KL per token of a model to its reference, by domain, with standard errors.

    Args:
        domains: the entries of `easyep compare`.
        first, second: the reference, and what is held against it.
    """
    with style():
        figure = new_figure(7.5, 0.9 + 0.34 * len(domains))
        axes = figure.subplots()
        axes.grid(False, axis="y")
        names = [short(str(each["domain"])) for each in domains]
        axes.barh(
            names,
            [each["divergence"]["value"] for each in domains],
            xerr=[each["divergence"]["stderr"] or 0 for each in domains],
            color=COLOURS[0],
            ecolor=INK,
            capsize=2,
        )
        axes.invert_yaxis()
        axes.set_xlabel("KL, nats per token")
    return Drawn(
        "divergence",
        "KL to the reference by domain",
        f"{second} against {first}, per token of the same text, with standard errors.",
        figure,
    )
