"""Figures of a study: what pruned models keep, by budget, by what was shown, by how much of it."""

from collections.abc import Callable, Mapping, Sequence
from statistics import geometric_mean
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
from easyep.reporting.study_pairs import ratios

Row = Mapping[str, Any]
_MEASURES = (
    ("mean", "accuracy, %", 100.0),
    ("kl", "KL to the full model, nats per token", 1.0),
    ("ratio", "KL over that of easy-ep", 1.0),
)


def drawn(result: Mapping[str, Any]) -> list[Drawn]:
    """The figures that a study has the numbers for: one for each axis with several values."""
    rows = [row for row in result["summary"] if row["criterion"] != "full"]
    several = {
        axis: list(dict.fromkeys(row.get(axis) for row in rows))
        for axis in ("keep", "shown", "n_demos", "reroute")
    }
    shown = [value for value in several["shown"] if value not in (None, "nothing")]
    found = []
    if len(shown) > 1:
        found.append(_by_shown(rows, shown))
    elif len(several["n_demos"]) > 1:
        found.append(_by_number(result, rows))
    elif len(several["reroute"]) > 1:
        found.append(_rerouting(result, rows))
    elif len(several["keep"]) > 1:
        found.append(_by_keep(result, rows))
    elif rows:
        found.append(_by_criterion(rows))
    return found


def _by_keep(result: Mapping[str, Any], rows: Sequence[Row]) -> Drawn:
    found = ratios(result, "criterion", ("criterion", "keep", "groups"))
    pairs = {key: geometric_mean(each) for key, each in found.items()}
    paired = "Below: geometric mean of the ratios of each domain and draw." if pairs else ""
    return _lines(
        result,
        [{**row, **_paired(row, pairs)} for row in rows],
        along="keep",
        line=lambda row: row["criterion"],
        panel=lambda row: row["groups"],
        name="by-budget",
        title="Accuracy and KL against experts kept",
        label="experts kept",
        caption="Means over the domains, each pruned for itself; bars: standard deviation over "
        f"draws of the demonstrations or seeds. {paired}".rstrip(),
    )


def _paired(row: Row, pairs: Mapping[tuple[Any, ...], float]) -> dict[str, float]:
    key = (row["criterion"], row["keep"], row["groups"])
    if key in pairs:
        return {"ratio": pairs[key]}
    return {"ratio": 1.0} if pairs and row["criterion"] == "easy-ep" else {}


def _by_number(result: Mapping[str, Any], rows: Sequence[Row]) -> Drawn:
    return _lines(
        result,
        rows,
        along="n_demos",
        line=lambda row: row["criterion"],
        panel=lambda row: f"{row['keep']} experts, {row['groups']}",
        name="by-demonstrations",
        title="Accuracy and KL against the number of demonstrations",
        label="demonstrations",
        caption="Means over the domains; bars: standard deviation over draws.",
    )


def _rerouting(result: Mapping[str, Any], rows: Sequence[Row]) -> Drawn:
    return _lines(
        result,
        rows,
        along="keep",
        line=lambda row: row["criterion"] + ("" if row["reroute"] else ", not rerouted"),
        panel=lambda row: row["groups"],
        name="rerouting",
        title="With and without rerouting",
        label="experts kept",
        caption="Dashed: the router chooses as before, and what dropped experts would have added "
        "is missing.",
    )


def _lines(
    result: Mapping[str, Any],
    rows: Sequence[Row],
    *,
    along: str,
    line: Callable[[Row], str],
    panel: Callable[[Row], str],
    name: str,
    title: str,
    label: str,
    caption: str,
) -> Drawn:
    """One column per panel; accuracy above, KL below where it was measured."""
    panels = list(dict.fromkeys(map(panel, rows)))
    names = list(dict.fromkeys(map(line, rows)))
    criteria = list(dict.fromkeys(row["criterion"] for row in rows))
    measures = [each for each in _MEASURES if any(each[0] in row for row in rows)]
    full = next(row for row in result["summary"] if row["criterion"] == "full")
    with style():
        figure = new_figure(1.4 + 3.7 * len(panels), 0.6 + 3.1 * len(measures))
        grid = figure.subplots(len(measures), len(panels), squeeze=False, sharey="row")
        for below, (measure, words, scale) in enumerate(measures):
            for column, where in enumerate(panels):
                axes = grid[below][column]
                for each in names:
                    mine = [r for r in rows if panel(r) == where and line(r) == each]
                    _line(axes, mine, along, measure, scale, each, criteria)
                axes.set_xlim(*_around([row[along] for row in rows], log=along == "n_demos"))
                if measure == "mean":
                    axes.axhline(100 * full["mean"], color=INK, alpha=0.5, linestyle=":")
                    axes.set_ylim(0, 103)
                    axes.set_title(where)
                elif measure == "ratio":
                    log_heights(axes, (1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0))
                else:
                    log_heights(axes)
                ticks = sorted({r[along] for r in rows})
                if along == "n_demos":
                    axes.set_xscale("log")
                axes.set_xticks(ticks, [str(tick) for tick in ticks])
                axes.xaxis.minorticks_off()
                axes.set_xlabel(label)
            grid[below][0].set_ylabel(words)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", handlelength=3.2)
    dotted = " Dotted: the full model." if measures else ""
    return Drawn(name, title, caption + dotted, figure)


def _line(
    axes: Any,
    rows: Sequence[Row],
    along: str,
    measure: str,
    scale: float,
    name: str,
    criteria: Sequence[str],
) -> None:
    rows = sorted((row for row in rows if measure in row), key=lambda row: float(row[along]))
    if not rows:
        return
    place = criteria.index(rows[0]["criterion"])
    spreads = [row.get("spread" if measure == "mean" else f"{measure}_spread") for row in rows]
    axes.errorbar(
        [row[along] for row in rows],
        [scale * row[measure] for row in rows],
        yerr=[scale * (spread or 0) for spread in spreads],
        color=INK if rows[0]["criterion"] == "random" else COLOURS[place % len(COLOURS)],
        marker=MARKERS[(place + place // len(COLOURS)) % len(MARKERS)],
        linestyle="--" if not rows[0].get("reroute", True) or place >= len(COLOURS) else "-",
        linewidth=2.0 if place == 0 else 1.1,
        markersize=4,
        capsize=2,
        label=short(name),
    )


def _around(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    """Limits of an axis that leave room for markers."""
    low, high = min(values), max(values)
    if log:
        return low / 1.3, high * 1.3
    room = 0.05 * (high - low)
    return low - room, high + room


def _by_shown(rows: Sequence[Row], shown: Sequence[str]) -> Drawn:
    return _bars(
        rows,
        place=lambda row: f"{row['keep']}, {row['groups']}\n{row['criterion']}",
        colour=lambda row: row["shown"],
        colours=shown,
        called="shown",
        name="by-what-was-shown",
        title="What was shown",
        caption="Means over the domains by experts kept, group mode and criterion; bars: standard "
        "deviation over draws.",
    )


def _by_criterion(rows: Sequence[Row]) -> Drawn:
    def budget(row: Row) -> str:
        return f"{row['keep']}, {row['groups']}"

    return _bars(
        rows,
        place=lambda row: short(row["criterion"]),
        colour=budget,
        colours=list(dict.fromkeys(map(budget, rows))),
        called="experts kept",
        name="by-criterion",
        title="Accuracy and KL by criterion",
        caption="Means over the domains; bars: standard deviation over draws of the demonstrations "
        "or seeds, where there are several.",
    )


def _bars(
    rows: Sequence[Row],
    *,
    place: Callable[[Row], str],
    colour: Callable[[Row], str],
    colours: Sequence[str],
    called: str,
    name: str,
    title: str,
    caption: str,
) -> Drawn:
    """A bar of each colour at each place; places that lack one (weights see nothing) are left."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(place(row), {}).setdefault(colour(row), row)
    places = {label: bars for label, bars in found.items() if set(colours) <= set(bars)}
    measures = [each for each in _MEASURES if all(each[0] in row for row in rows)]
    width = 0.8 / len(colours)
    with style():
        figure = new_figure(max(7.0, 2.0 + 1.3 * len(places)), 0.6 + 2.8 * len(measures))
        grid = figure.subplots(len(measures), 1, squeeze=False)
        for below, (measure, words, scale) in enumerate(measures):
            axes = grid[below][0]
            axes.grid(False, axis="x")
            spread = "spread" if measure == "mean" else f"{measure}_spread"
            for number, kind in enumerate(colours):
                bars = [each[kind] for each in places.values()]
                axes.bar(
                    [n + (number - (len(colours) - 1) / 2) * width for n in range(len(places))],
                    [scale * row[measure] for row in bars],
                    width,
                    yerr=[scale * (row.get(spread) or 0) for row in bars],
                    color=COLOURS[number % len(COLOURS)],
                    ecolor=INK,
                    capsize=2,
                    label=kind,
                )
            axes.set_ylabel(words)
            if measure == "kl":
                log_heights(axes)
            axes.set_xticks(range(len(places)), list(places))
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", title=called, title_fontsize=8)
    return Drawn(name, title, caption, figure)
