"""The figure of a server under load: what it answers, and how long that takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from easyep.reporting.drawing import (
    COLOURS,
    MARKERS,
    Drawn,
    log_heights,
    new_figure,
    short,
    style,
)


def drawn(points: Sequence[Mapping[str, Any]]) -> Drawn:
    """Requests answered a second, and time to the first token, against requests sent a second.

    Args:
        points: what `easyep bench --request-rate` measured; a colour for each model, lengths and
            limit of requests at a time.
    """
    with style():
        figure = new_figure(8.0, 3.6)
        answered, waited = figure.subplots(1, 2)
        for number, key in enumerate(dict.fromkeys(map(_line, points))):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            shown = sorted(
                (p for p in points if _line(p) == key and not p.get("ended")),
                key=lambda p: float(p["request_rate"]),
            )
            rates = [float(p["request_rate"]) for p in shown]
            answered.errorbar(
                rates,
                [p["request_throughput"] for p in shown],
                yerr=[p["std_request_throughput"] or 0 for p in shown],
                color=colour,
                marker=marker,
                markersize=4,
                capsize=2,
                label=f"{short(key[0])}, {key[1]}+{key[2]}, {key[3]}",
            )
            for share, line in (("median", "-"), ("p99", "--")):
                heights = [p[f"{share}_ttft_ms"] for p in shown]
                waited.plot(rates, heights, line, color=colour, marker=marker, markersize=4)
        sent = sorted({float(p["request_rate"]) for p in points})
        answered.plot(sent, sent, ":", color="gray", linewidth=1, label="as many as are sent")
        answered.set(xlabel="requests sent a second", ylabel="requests answered a second")
        waited.set(xlabel="requests sent a second", ylabel="time to first token, ms")
        low, high = waited.dataLim.intervaly
        waited.set_ylim(low / 1.5, high * 1.5)
        log_heights(waited)
        answered.legend(title="model, input + output tokens, at most at a time", title_fontsize=8)
    return Drawn(
        "request-rates",
        "A server at request rates",
        "Requests come at random, so many a second on average. Left: medians of the rounds with "
        "their standard deviation; below the dotted line the server does not keep up. Right: "
        "until the first token comes, median and (dashed) 99th percentile of all requests.",
        figure,
    )


def _line(point: Mapping[str, Any]) -> tuple[str, int, int, int]:
    lengths = point["random_input_len"], point["random_output_len"]
    return str(point["model"]), *lengths, point["max_concurrency"]
