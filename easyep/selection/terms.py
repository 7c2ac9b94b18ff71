"""What the choice in a layer has to respect: budget, groups, and experts that somebody named."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from easyep.architectures.router import Router
from easyep.artifacts.files import layer_entries, read_json
from easyep.choices import several, written
from easyep.errors import SelectionError

Named = str | os.PathLike[str]
Flags = npt.NDArray[np.bool_]

_ENTRY = re.compile(
    r"(?:(?P<first>\d{1,9})(?:-(?P<last>\d{1,9}))?:)?(?P<experts>[\d,\s-]+)", re.ASCII
)
_RANGE = re.compile(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", re.ASCII)

# The entry of protected experts that stands for those that `super_experts` finds.
SUPER_EXPERTS = "super-experts"

FORM = "LAYER:EXPERTS as in 3:17,40, or 3-5:17; without a layer, as in 17,40-42, in every layer"


@dataclass(frozen=True)
class Terms:
    """What the kept experts of one layer must be.

    Attributes:
        layer: which layer, for messages.
        keep: how many are kept (K).
        n_group: groups, of which each keeps ``keep / n_group``; 1 where none count.
        protected: bool [E], experts that must be kept.
        forbidden: bool [E], experts that must be dropped.
    """

    layer: int
    keep: int
    n_group: int
    protected: Flags
    forbidden: Flags

    @property
    def groups(self) -> list[range]:
        """The ids of each group."""
        size = len(self.protected) // self.n_group
        return [range(start, start + size) for start in range(0, len(self.protected), size)]

    @property
    def quota(self) -> int:
        """How many each group keeps."""
        return self.keep // self.n_group

    def check(self) -> None:
        """Raises SelectionError where no choice respects all of it."""
        both = np.flatnonzero(self.protected & self.forbidden)
        if len(both):
            raise SelectionError(f"layer {self.layer}: expert {both[0]} is protected and forbidden")
        for number, group in enumerate(self.groups):
            where = f"layer {self.layer}"
            if self.n_group > 1:
                where += f", group {number} (experts {group[0]} to {group[-1]})"
            protected = int(self.protected[group].sum())
            if protected > self.quota:
                raise SelectionError(
                    f"{where}: {protected} experts are protected, {self.quota} are kept; keep "
                    "more, or protect fewer" + self._way_out()
                )
            left = len(group) - int(self.forbidden[group].sum())
            if left < self.quota:
                raise SelectionError(
                    f"{where}: {left} experts are left beside the forbidden ones, {self.quota} are "
                    "to be kept; keep fewer, or forbid fewer" + self._way_out()
                )

    def _way_out(self) -> str:
        return "; or choose groups 'flatten'" if self.n_group > 1 else ""


def named_experts(
    named: Named | Sequence[Named], layers: Sequence[int], num_experts: int
) -> dict[int, Flags]:
    """The experts that somebody named, layer by layer, as bool [E].

    Args:
        named: entries of the form ``LAYER:EXPERTS`` (``"3:17,40"``, ``"3-5:17"``), or ``EXPERTS``
            in every layer (``"17,40-42"``), or a JSON file: a selection, or an object from layer
            numbers to lists of experts.
        layers: the layers that there are.
        num_experts: experts per layer (E).

    Raises:
        SelectionError: an entry has another form, or names what does not exist.
        ArtifactError: a file cannot be read.
    """
    flags = {layer: np.zeros(num_experts, dtype=np.bool_) for layer in layers}
    for entry in as_entries(named):
        for layer, experts in _entry(entry, layers):
            if layer not in flags:
                known = ", ".join(map(str, layers))
                raise SelectionError(
                    f"{_shown(entry)}: there is no layer {layer}; those scored: {known}"
                )
            for expert in experts:
                if not 0 <= expert < num_experts:
                    raise SelectionError(
                        f"{_shown(entry)}: there is no expert {expert}; a layer has 0 to "
                        f"{num_experts - 1}"
                    )
                flags[layer][expert] = True
    return flags


def check_named(
    protect: Named | Sequence[Named],
    forbid: Named | Sequence[Named],
    layers: Sequence[int],
    router: Router,
    *,
    keep: int,
    groups: str,
) -> None:
    """Check what is protected and forbidden before there are scores; errors as in `select`."""
    protected = [entry for entry in as_entries(protect) if entry != SUPER_EXPERTS]
    count = router.num_experts
    terms_by_layer(
        layers,
        router,
        keep,
        groups,
        named_experts(protected, layers, count),
        named_experts(forbid, layers, count),
    )


def terms_by_layer(
    layers: Sequence[int],
    router: Router,
    keep: int,
    groups: str,
    protected: Mapping[int, Flags],
    forbidden: Mapping[int, Flags],
) -> dict[int, Terms]:
    """The terms of every layer, checked.

    Raises:
        SelectionError: no choice respects them; the message names the layer.
    """
    n_group = router.n_group if groups == "balanced" else 1
    terms = {
        layer: Terms(layer, keep, n_group, protected[layer], forbidden[layer]) for layer in layers
    }
    for each in terms.values():
        each.check()
    return terms


def check_entry(entry: Named) -> None:
    """Check the form of an entry of `forbid`, before there is a model; no file is read.

    `protect` takes `SUPER_EXPERTS` as well.

    Raises:
        SelectionError: it has none of the forms.
    """
    if not str(entry).endswith(".json"):
        _parsed(entry)


def as_entries(named: Named | Sequence[Named]) -> list[Named]:
    """One entry is a list of one; ArtifactError where an entry is no text or path."""
    return list(several(written)("the experts that are named", named))


def _entry(entry: Named, layers: Sequence[int]) -> Iterator[tuple[int, Iterable[int]]]:
    """Layers with experts, one by one: a short entry can name more than fits into memory."""
    if str(entry).endswith(".json"):
        yield from _file(Path(entry)).items()
        return
    named, ranges = _parsed(entry)
    for layer in layers if named is None else named:
        yield layer, chain.from_iterable(ranges)


def _parsed(entry: Named) -> tuple[range | None, list[range]]:
    """The layers of an entry, None where it means all, and the experts in each."""
    match = _ENTRY.fullmatch(str(entry).strip())
    parts = [_RANGE.fullmatch(part) for part in match["experts"].split(",")] if match else [None]
    if match is None or None in parts:
        raise SelectionError(f"{_shown(entry)!r} names no experts; write {FORM}")
    ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part]
    if any(not each for each in ranges):
        raise SelectionError(f"{_shown(entry)!r} has a range whose end is before its beginning")
    if match["first"] is None:
        return None, ranges
    named = range(int(match["first"]), int(match["last"] or match["first"]) + 1)
    if not named:
        raise SelectionError(f"{_shown(entry)!r} has layers whose end is before its beginning")
    return named, ranges


def _shown(entry: Named) -> str:
    """An entry in a message: anything may have been given in its place."""
    text = str(entry)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _file(path: Path) -> dict[int, list[int]]:
    value = read_json(path, "experts")
    entries = layer_entries(value if "layers" in value else {"layers": value})
    if any(type(expert) is not int for experts in entries.values() for expert in experts):
        raise SelectionError(f"{path}: experts must be integers")
    return entries
