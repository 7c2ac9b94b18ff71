"""What a plan says of streaming, and of several processes."""

from typing import Any

from easyep.cli.console import human_time
from easyep.planning import Planned
from easyep.reporting.numbers import size
from easyep.runners import runner_class
from easyep.stream_probe import Forecast


def streaming_rows(planned: Planned, work_dir: str | None) -> list[tuple[str, str]]:
    """For a table: (what, value)."""
    forecast = planned.forecast
    if forecast is None:
        return []
    several = planned.share is not None
    by_each = " by each process" if several else ""
    on_top = "; the network comes on top" if several else ""
    plan, speeds = forecast.plan, forecast.speeds
    parts = [f"reading {human_time(forecast.reading)} at {size(speeds.reads)}/s"]
    if speeds.dequantises is not None:
        made = f"{size(speeds.dequantises)}/s"
        parts.append(f"dequantising {human_time(forecast.dequantising)} at {made}")
    compute = f"{speeds.computes / 1e9:,.0f} GFLOP/s"
    parts.append(f"computing {human_time(forecast.computing)} at {compute}")
    rows = [
        ("to read", f"{size(plan.to_read)}, once for all domains"),
        ("memory needed", f"{size(plan.memory)}{by_each}"),
        ("expected time", f"about {human_time(forecast.seconds)}: {', '.join(parts)}{on_top}"),
    ]
    if plan.to_spill:
        spilled = f"{size(plan.to_spill)} of what passes hold while they wait"
        rows.append(("written aside", spilled))
    saved = f"each layer in {work_dir}" if work_dir else "nothing: --work-dir DIR lets it go on"
    return [*rows, ("saved on the way", saved)]


def sharing_rows(planned: Planned) -> list[tuple[str, str]]:
    """What each of several processes does, for a table: (what, value); none for one alone."""
    if planned.share is None:
        return []
    read, held = size(planned.share.reads), size(planned.share.holds)
    does = runner_class(planned.runner).each.format(read=read, held=held)
    return [(f"each of {planned.share.processes} processes", does)]


def streaming_facts(forecast: Forecast | None) -> dict[str, Any] | None:
    """The same for a program."""
    if forecast is None:
        return None
    return {
        "bytes_to_read": forecast.plan.to_read,
        "memory_bytes": forecast.plan.memory,
        "spilled_bytes": forecast.plan.to_spill,
        "seconds": round(forecast.seconds, 1),
        "reading_seconds": round(forecast.reading, 1),
        "dequantising_seconds": round(forecast.dequantising, 1),
        "computing_seconds": round(forecast.computing, 1),
    }
