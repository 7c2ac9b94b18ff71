"""What `easyep bench` shows: measurements, gains, predictions."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from easyep.cli.console import print_table, warn
from easyep.reporting.numbers import size

if TYPE_CHECKING:
    from easyep.evaluation.roofline.predict import PredictedPoint, Prediction
    from easyep.evaluation.throughput.results import Gain, Point, Throughput
    from easyep.evaluation.throughput.workload import Workload


def show(found: "Throughput") -> None:
    for place, paced in (("a fixed batch", False), ("request rates", True)):
        points, gains = found.at(paced=paced)
        if points:
            _points(f"At {place}", points)
            _latencies(f"Latency at {place}, ms", points)
            _gains(f"Gain at {place}", gains)
    _beside(found.roofline)
    _expected(found.roofline)
    if found.memory_budget is not None:
        budget = f"within {size(found.memory_budget)}"
        _batches(f"Largest batch {budget}", found.largest_batches)
        _points(f"At the largest batch {budget}", found.within_memory)
        _latencies(f"Latency {budget}, ms", found.within_memory)
        _gains(f"Gain {budget}", found.gains_within_memory)


def show_prediction(found: "Prediction") -> None:
    """Bounds before and after pruning, at a fixed batch and within the memory."""
    full = next(iter(found.decoders))
    print_table(
        "Upper bounds, nothing was measured",
        ["model", "machine", "experts", "weights", "cache per token"],
        [
            (
                found.model,
                found.machine.name,
                f"{count} of {full}",
                size(each.stored_bytes),
                size(each.attention.cached(1)),
            )
            for count, each in found.decoders.items()
        ],
    )
    routing = "recorded routing" if found.recorded else "all experts equally often"
    if not found.fixed_batch:
        warn(f"nothing fits {size(found.memory_budget)}: the weights and one sequence take more")
    _predicted(f"At a fixed batch, {routing}", found.fixed_batch, full)
    title = f"At the largest batch within {size(found.memory_budget)}, {routing}"
    _predicted(title, found.within_memory, full)


def _predicted(title: str, points: "tuple[PredictedPoint, ...]", full: int) -> None:
    if not points:
        return
    before = {
        (each.input_len, each.output_len, title.startswith("At a fixed") and each.batch): each
        for each in points
        if each.experts == full
    }
    rows = []
    for each in points:
        key = (each.input_len, each.output_len, title.startswith("At a fixed") and each.batch)
        other = before.get(key)
        rows.append(
            [
                each.experts,
                f"{each.input_len}+{each.output_len}",
                each.batch,
                f"{each.prefill_throughput:.4g}",
                each.prefill.bound,
                f"{each.decode_throughput:.4g}",
                each.decode.bound,
                f"{each.output_throughput:.4g}",
                f"{each.decode_throughput / other.decode_throughput:.2f}" if other else "-",
            ]
        )
    columns = ["experts", "lengths", "batch", "prefill tok/s", "bound", "decode tok/s", "bound"]
    print_table(title, [*columns, "output tok/s", "decode gain"], rows)


def _batches(title: str, largest: "tuple[dict[str, Any], ...]") -> None:
    rows = [
        [
            each["model"],
            f"{each['lengths'][0]}+{each['lengths'][1]}",
            each["measured"],
            "-" if each["predicted"] is None else each["predicted"],
        ]
        for each in largest
    ]
    print_table(title, ["model", "lengths", "measured", "by weights and cache"], rows)


def _beside(roofline: dict[str, Any]) -> None:
    """Measured throughput as a part of what this machine allows."""

    def cells(each: dict[str, Any], phase: str) -> tuple[str, ...]:
        rate = f"{phase}_throughput"
        bound = each[f"{phase}_bound"]
        return f"{each[rate]:.4g}", bound, _percent(each["reached"][rate])

    if "points" not in roofline:
        return
    columns = ["model", "lengths", "batch", "prefill tok/s", "bound", "reached", "decode tok/s"]
    rows = _by_phase(roofline["points"], cells)
    print_table("The roofline of this machine", [*columns, "bound", "reached"], rows)


def _expected(roofline: dict[str, Any]) -> None:
    """What the roofline, calibrated on one model, predicts, beside what was measured."""

    def cells(each: dict[str, Any], phase: str) -> tuple[str, ...]:
        predicted = each["predicted"][f"{phase}_throughput"]
        value, error = predicted["value"], predicted["error"]
        return (
            "-" if value is None else f"{value:.4g}",
            "-" if error is None else f"{100 * error:+.3g}%",
        )

    known = [each for each in roofline.get("calibration", {}).values() if each is not None]
    if not known:
        return
    columns = ["model", "lengths", "batch", "prefill tok/s", "error", "decode tok/s", "error"]
    title = f"Predicted by the roofline, calibrated on {known[0]['model']}"
    print_table(title, columns, _by_phase(roofline["points"], cells))


def _by_phase(
    points: list[dict[str, Any]], cells: Callable[[dict[str, Any], str], tuple[str, ...]]
) -> list[list[object]]:
    """A row for each point, with the cells of both phases."""
    return [
        [
            each["model"],
            f"{each['random_input_len']}+{each['random_output_len']}",
            each["max_concurrency"],
            *(cell for phase in ("prefill", "decode") for cell in cells(each, phase)),
        ]
        for each in points
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3g}%"


def _points(title: str, points: "tuple[Point, ...]") -> None:
    columns = ["model", "lengths", _load_name(points), "prefill tok/s", "decode tok/s"]
    rows = [
        [*_name(point), "memory ended", "", "", "", ""]
        if point.ended
        else [
            *_name(point),
            *(_rate(point, n) for n in ("prefill", "decode", "output")),
            f"{point.rate('request_throughput'):.3g}",
            size(point.peak_memory) if point.peak_memory else "-",
        ]
        for point in points
    ]
    print_table(title, [*columns, "output tok/s", "requests/s", "memory"], rows)


def _latencies(title: str, points: "tuple[Point, ...]") -> None:
    columns = ["model", "lengths", _load_name(points)]
    shown = [(name, share) for name in ("ttft", "tpot", "itl") for share in (50, 99)]
    rows = [
        [*_name(point), *(_milliseconds(point.latency(*each)) for each in shown)]
        for point in points
        if not point.ended
    ]
    heads = [f"{name.upper()} {'median' if share == 50 else 'p99'}" for name, share in shown]
    print_table(title, columns + heads, rows)


def _gains(title: str, gains: "tuple[Gain, ...]") -> None:
    if not gains:
        return
    rows = []
    for each in gains:
        batch, other = _load(each.workload), _load(each.other_workload)
        rows.append(
            [
                f"{each.workload.input_len}+{each.workload.output_len}",
                batch if batch == other else f"{batch} against {other}",
                *(_ratio(each, f"{name}_throughput") for name in ("prefill", "decode", "output")),
                f"{each.per_byte['decode_throughput']:.2f}"
                if "decode_throughput" in each.per_byte
                else "-",
            ]
        )
    columns = [
        "lengths",
        _load_name(gains),
        *(f"{n} per instance" for n in ("prefill", "decode", "output")),
    ]
    columns.append("decode per byte")
    print_table(title, columns, rows)


def _name(point: "Point") -> list[object]:
    workload = point.workload
    return [point.model, f"{workload.input_len}+{workload.output_len}", _load(workload)]


def _load_name(points: "tuple[Point | Gain, ...]") -> str:
    return "requests" if points and points[0].workload.paced else "batch"


def _load(workload: "Workload") -> str:
    """Requests at a time, or how many come in a second."""
    if not workload.paced:
        return str(workload.batch_size)
    most = "" if workload.batch_size == workload.requests else f", {workload.batch_size} at a time"
    return f"{workload.request_rate:g}/s{most}"


def _rate(point: "Point", name: str) -> str:
    value = point.rate(f"{name}_throughput")
    return "-" if value is None else f"{value:.4g}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.3g}"


def _ratio(gain: "Gain", name: str) -> str:
    if name not in gain.per_instance:
        return "-"
    low, high = gain.spread[name]
    return f"{gain.per_instance[name]:.2f} ({low:.2f} to {high:.2f})"
