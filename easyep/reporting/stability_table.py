"""A study of stability as a Markdown table, for pages."""

from collections.abc import Mapping
from statistics import mean
from typing import Any

from easyep.reporting.markdown import table


def by_demonstrations(result: Mapping[str, Any]) -> str:
    """One row per number of demonstrations, for each budget two columns, means over the sets.

    The columns are the overlap with what the whole set keeps, and that of two samples that share
    no demonstration, in %.

    Args:
        result: what `easyep stability` wrote.
    """
    keeps = result["keep"]
    columns = ["demonstrations"]
    for keep in keeps:
        columns += [f"{keep} of {result['num_experts']}: as the whole set", "two disjoint samples"]
    lines = []
    for number in sorted({row["demos"] for row in result["by_number"]}):
        cells = [str(number)]
        for keep in keeps:
            rows = [r for r in result["by_number"] if (r["keep"], r["demos"]) == (keep, number)]
            apart = [r["disjoint"] for r in rows if r["disjoint"] is not None]
            cells += [_percent([r["overlap"] for r in rows]), _percent(apart)]
        lines.append(cells)
    return table(columns, lines)


def _percent(shares: list[float]) -> str:
    return f"{100 * mean(shares):.1f}" if shares else "-"
