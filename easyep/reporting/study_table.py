"""A study's numbers as a Markdown table, for READMEs and pages."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from easyep.reporting.markdown import table


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
    heads = [f"{keep} of {full['keep']} experts, {groups}" for keep, groups in columns]
    lines = [
        ["full model", *(_percent(full) for _ in columns)],
        *(
            [name, *(_percent(rows[name, keep, groups]) for keep, groups in columns)]
            for name in criteria
        ),
        ["size", *(f"{size[keep] / full['bytes']:.0%}" for keep, _ in columns)],
    ]
    return table(["", *heads], lines, words=[""])


def by_domain(result: Mapping[str, Any]) -> str:
    """One row per criterion, budget and group mode, one column per domain: accuracy in %.

    What else has several values in the study is a column, too.
    """
    columns, rows = cells_by_domain(result)
    return table(columns, rows, words=_WORDS)


def cells_by_domain(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of `by_domain`, for tables that are not Markdown."""
    domains = list(result["study"]["domains"])
    more = [axis for axis in _varied(_pruned(result)) if axis in _MORE]
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


def accuracies(result: Mapping[str, Any]) -> str:
    """Mean accuracy over the domains in %, and ± the standard deviation over draws or seeds.

    Along a row stand the numbers of demonstrations, where the study has several, else its budgets
    and group modes; down the table what else has several values.
    """
    full = next(row for row in result["summary"] if row["criterion"] == "full")
    return _grid(result, _percent, full)


def divergences(result: Mapping[str, Any]) -> str:
    """As `accuracies`: KL to the full model, nats per token."""
    return _grid(result, _kl)


def _grid(
    result: Mapping[str, Any],
    cell: Callable[[Mapping[str, Any]], str],
    full: Mapping[str, Any] | None = None,
) -> str:
    pruned = _pruned(result)
    varied = _varied(pruned)
    along = ["n_demos"] if "n_demos" in varied else ["keep", "groups"]
    down = [axis for axis in varied if axis not in along] or ["criterion"]
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in pruned:
        head = ", ".join(str(row[axis]) for axis in along)
        cells.setdefault(tuple(_word(row[axis]) for axis in down), {})[head] = cell(row)
    heads = list(dict.fromkeys(head for line in cells.values() for head in line))
    names = [_NAMES[axis] for axis in down]
    first = [["full model", *[""] * (len(down) - 1), *[cell(full)] * len(heads)]] if full else []
    lines = [[*name, *(line.get(head, "-") for head in heads)] for name, line in cells.items()]
    return table([*names, *heads], [*first, *lines], words=_WORDS)


def _pruned(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in result["summary"] if row["criterion"] != "full"]


def _varied(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Axes with several values. What looks at no demonstrations was shown nothing: no value."""
    rows = list(rows)
    found = {axis: {row.get(axis) for row in rows} - {"nothing"} for axis in _NAMES}
    return [axis for axis, values in found.items() if len(values) > 1]


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


# Axes of a study that most have one value of -> what their columns are called.
_MORE = {"shown": "shown", "n_demos": "demonstrations", "reroute": "reroute"}
_WORDS = {"criterion", "groups", *_MORE.values()}
_NAMES = {"criterion": "criterion", "keep": "experts", "groups": "groups", **_MORE}


def _percent(row: Mapping[str, Any]) -> str:
    spread = f" ± {100 * row['spread']:.1f}" if row["spread"] is not None else ""
    return f"{100 * row['mean']:.1f}{spread}"


def _kl(row: Mapping[str, Any]) -> str:
    digits = 3 if row["kl"] >= 0.01 or not row["kl"] else 4
    spread = row.get("kl_spread")
    return f"{row['kl']:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")
