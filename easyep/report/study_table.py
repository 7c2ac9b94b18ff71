"""A study's numbers as a Markdown table, for READMEs and pages."""

from collections.abc import Mapping
from typing import Any


def means(result: Mapping[str, Any]) -> str:
    """One row per criterion, one column per budget and group mode: mean accuracy in %.

    Args:
        result: what `easyep run` wrote for a study.
    """
    rows = {(r["criterion"], r["keep"], r["groups"]): r for r in result["summary"]}
    full = next(row for row in result["summary"] if row["criterion"] == "full")
    columns = list(dict.fromkeys((keep, groups) for c, keep, groups in rows if c != "full"))
    criteria = list(dict.fromkeys(c for c, _, _ in rows if c != "full"))
    size = {
        keep: next(r["bytes"] for r in rows.values() if r["keep"] == keep) for keep, _ in columns
    }
    lines = [
        _row(["", *(f"{keep} of {full['keep']} experts, {groups}" for keep, groups in columns)]),
        _row(["---", *("---:" for _ in columns)]),
        _row(["full model", *(_percent(full) for _ in columns)]),
        *(
            _row([name, *(_percent(rows[name, keep, groups]) for keep, groups in columns)])
            for name in criteria
        ),
        _row(["size", *(f"{size[keep] / full['bytes']:.0%}" for keep, _ in columns)]),
    ]
    return "\n".join(lines)


def by_domain(result: Mapping[str, Any]) -> str:
    """One row per criterion, budget and group mode, one column per domain: accuracy in %."""
    columns, rows = cells_by_domain(result)
    numeric = [name not in ("criterion", "groups") for name in columns]
    marks = ["---:" if is_number else "---" for is_number in numeric]
    return "\n".join([_row(columns), _row(marks), *map(_row, rows)])


def cells_by_domain(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of `by_domain`, for tables that are not Markdown."""
    domains = list(result["study"]["domains"])
    rows = [
        [
            row["criterion"],
            str(row["keep"]),
            row["groups"],
            *(f"{100 * row['domains'][domain]:.1f}" for domain in domains),
            _percent(row),
        ]
        for row in result["summary"]
    ]
    return ["criterion", "experts", "groups", *domains, "mean"], rows


def _percent(row: Mapping[str, Any]) -> str:
    spread = f" ± {100 * row['spread']:.1f}" if row["spread"] is not None else ""
    return f"{100 * row['mean']:.1f}{spread}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
