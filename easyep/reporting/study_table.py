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
    """One row per criterion, budget and group mode, one column per domain: accuracy in %.

    What else has several values in the study is a column, too.
    """
    columns, rows = cells_by_domain(result)
    words = {"criterion", "groups", *_MORE.values()}
    marks = ["---" if name in words else "---:" for name in columns]
    return "\n".join([_row(columns), _row(marks), *map(_row, rows)])


def cells_by_domain(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of `by_domain`, for tables that are not Markdown."""
    domains = list(result["study"]["domains"])
    pruned = [row for row in result["summary"] if row["criterion"] != "full"]
    more = [axis for axis in _MORE if len({row.get(axis) for row in pruned}) > 1]
    likeness = all("kl" in row for row in result["summary"])
    rows = [
        [
            row["criterion"],
            str(row["keep"]),
            row["groups"],
            *("-" if row["criterion"] == "full" else str(row[axis]) for axis in more),
            *(f"{100 * row['domains'][domain]:.1f}" for domain in domains),
            _percent(row),
            *([_kl(row), f"{100 * row['agreement']:.1f}"] if likeness else []),
        ]
        for row in result["summary"]
    ]
    columns = ["criterion", "experts", "groups", *(_MORE[axis] for axis in more), *domains, "mean"]
    return [*columns, *(["KL", "agreement"] if likeness else [])], rows


def likeness(result: Mapping[str, Any]) -> str:
    """As `by_domain` of a study on held-out answers, with means only.

    Accuracy and agreement in %, KL in nats per token; ± is the standard deviation over draws.
    """
    columns, rows = cells_by_domain(result)
    domains = result["study"]["domains"]
    kept = [place for place, name in enumerate(columns) if name not in domains]
    names = [{"mean": "accuracy"}.get(columns[place], columns[place]) for place in kept]
    words = {"criterion", "groups", *_MORE.values()}
    marks = ["---" if name in words else "---:" for name in names]
    return "\n".join(
        [_row(names), _row(marks), *(_row([row[place] for place in kept]) for row in rows)]
    )


# Axes of a study that most have one value of -> what their columns are called.
_MORE = {"shown": "shown", "n_demos": "demonstrations", "reroute": "reroute"}


def _percent(row: Mapping[str, Any]) -> str:
    spread = f" ± {100 * row['spread']:.1f}" if row["spread"] is not None else ""
    return f"{100 * row['mean']:.1f}{spread}"


def _kl(row: Mapping[str, Any]) -> str:
    spread = row.get("kl_spread")
    return f"{row['kl']:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
