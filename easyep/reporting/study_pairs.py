"""A study's cells in pairs that differ in one choice: which is better, and how often.

Domains differ in their KL by an order of magnitude, so that a mean over them tells of the hardest.
A ratio within each domain, draw, budget and group mode does not.
"""

from collections.abc import Hashable, Mapping, Sequence
from statistics import geometric_mean
from typing import Any

from easyep.reporting.markdown import table

# A choice -> what its other values are compared with.
_REFERENCES: Mapping[str, Hashable] = {
    "criterion": "easy-ep",
    "groups": "balanced",
    "shown": "own",
    "reroute": True,
}
_KEY = ("criterion", "domain", "keep", "groups", "seed", "shown", "n_demos", "draw", "reroute")


def by_criterion(result: Mapping[str, Any]) -> str:
    """KL of each criterion over that of EASY-EP, by budget and group mode.

    The geometric mean over domains and draws, and in how many of the pairs the ratio is below 1.
    """
    return _table(result, "criterion", "criterion", ("keep", "groups"))


def by_groups(result: Mapping[str, Any]) -> str:
    """As `by_criterion`: KL with the groups flattened over that with balanced ones."""
    return _table(result, "groups", "criterion", ("keep",))


def by_shown(result: Mapping[str, Any]) -> str:
    """As `by_criterion`: KL by what was shown, over that with the domain's own demonstrations."""
    return _table(result, "shown", "shown", ("keep", "groups"))


def by_rerouting(result: Mapping[str, Any]) -> str:
    """As `by_criterion`: KL without rerouting over that with it."""
    return _table(result, "reroute", "criterion", ("keep", "groups"))


def ratios(
    result: Mapping[str, Any], choice: str, axes: Sequence[str]
) -> dict[tuple[Any, ...], list[float]]:
    """KL over that of the pair's other cell, which has the value of `_REFERENCES`.

    Args:
        result: what `easyep run` wrote for a study on held-out answers.
        choice: what cells of a pair differ in, a key of `_REFERENCES`.
        axes: names of a cell's entries.

    Returns:
        Values of the axes -> one ratio per pair.
    """
    cells = {tuple(cell.get(axis) for axis in _KEY): cell for cell in result.get("cells", ())}
    place = _KEY.index(choice)
    found: dict[tuple[Any, ...], list[float]] = {}
    for key, cell in cells.items():
        other = cells.get((*key[:place], _REFERENCES[choice], *key[place + 1 :]))
        if other is not None and other is not cell and other.get("kl"):
            values = tuple(cell[axis] for axis in axes)
            found.setdefault(values, []).append(cell["kl"] / other["kl"])
    return found


def _table(result: Mapping[str, Any], choice: str, down: str, along: tuple[str, ...]) -> str:
    found: dict[str, dict[str, list[float]]] = {}
    for (value, *budget), each in ratios(result, choice, (down, *along)).items():
        name = "others" if value in result["study"]["domains"] else value
        head = ", ".join(map(str, budget))
        found.setdefault(name, {}).setdefault(head, []).extend(each)
    heads = list(dict.fromkeys(head for line in found.values() for head in line))
    rows = [
        [name, *(_cell(line[head]) if head in line else "-" for head in heads)]
        for name, line in found.items()
    ]
    return table([down, *heads], rows, words=[down])


def _cell(each: list[float]) -> str:
    lower = sum(ratio < 1 for ratio in each)
    return f"{geometric_mean(each):.2f} ({lower} of {len(each)})"
