"""Where the records of a run go while it runs: whole or as sums, in memory or in a journal."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyep import memory
from easyep.architectures.router import Router
from easyep.artifacts import LayerSums, RoutedTokens
from easyep.artifacts.journal import Journal
from easyep.atomic import existing
from easyep.criteria import CRITERIA, needs_record
from easyep.errors import ArtifactError
from easyep.scoring import summable, sums


@dataclass(frozen=True)
class RecordPlan:
    """What a run keeps.

    Attributes:
        size: bytes of the full record.
        room: bytes that are free where it would go.
        full: whether it is kept; else only sums for `criteria` are.
        criteria: the criteria that can be scored without the full record.
    """

    size: int
    room: int
    full: bool
    criteria: tuple[str, ...]


def plan_records(
    choice: str,
    criteria: Sequence[str],
    *,
    tokens: int,
    layers: int,
    router: Router,
    place: Path | None,
) -> RecordPlan:
    """Whether a run keeps its full record.

    ``"auto"`` keeps it where it takes at most half of the room: a saved run is for a moment there
    twice, as a journal and as its final form.

    Args:
        choice: ``"auto"``, ``"full"`` or ``"none"``, as in `Recipe`.
        criteria: those that will be asked for; none given means every one that sums are enough for.
        tokens, layers, router: what the run is to see.
        place: a path on the disk that it is saved to; None = it stays in memory.

    Raises:
        ArtifactError: a criterion needs the full record, and that is not to be kept.
    """
    size = tokens * layers * RoutedTokens.bytes_per_token(router.num_experts, router.top_k)
    room = (
        shutil.disk_usage(existing(Path(os.path.realpath(place)))).free
        if place is not None
        else memory.available()
    )
    full = choice == "full" or (choice == "auto" and size <= room // 2)
    asked = tuple(criteria) or tuple(name for name in sorted(CRITERIA) if summable(name))
    unfit = [name for name in asked if needs_record(name) and not summable(name)]
    if unfit and not full:
        raise ArtifactError(
            f"the criterion {unfit[0]!r} needs the full record, which takes {size:,} bytes "
            f"({room:,} are free): --records full keeps it, --n-demos and --max-length make it "
            "smaller"
        )
    return RecordPlan(size, room, full, tuple(name for name in asked if summable(name)))


class FullStore:
    """Keeps every record.

    Args:
        router: of the model.
        journal: where they are kept; None = in memory.

    Attributes:
        done: the demonstrations that it has.
    """

    def __init__(self, router: Router, journal: Journal | None = None) -> None:
        self._router = router
        self._journal = journal
        self._parts: dict[int, list[RoutedTokens]] = {}
        self.done: set[int] = set(journal.done) if journal is not None else set()

    def add(self, demos: Sequence[int], parts: Mapping[int, RoutedTokens]) -> None:
        """Take what each layer did with some demonstrations; batches come in order."""
        small = {i: part.with_ids_for(self._router.num_experts) for i, part in parts.items()}
        if self._journal is not None:
            self._journal.add(demos, {i: part.arrays() for i, part in small.items()})
        else:
            for index, part in small.items():
                self._parts.setdefault(index, []).append(part)
        self.done |= set(demos)

    def add_layer(self, layer: int, part: RoutedTokens) -> None:
        """Take what one layer did with all demonstrations, in place of what there was of it."""
        small = part.with_ids_for(self._router.num_experts)
        if self._journal is not None:
            self._journal.add_layer(layer, small.arrays())
        else:
            self._parts[layer] = [small]

    def layer(self, index: int) -> RoutedTokens:
        """The record of all tokens of one layer."""
        if self._journal is not None:
            return _Joined(self._journal)[index]
        return RoutedTokens.concatenate(self._parts[index])

    def layers(self) -> Mapping[int, RoutedTokens]:
        """Layer index -> record of all tokens; from a journal, read when asked for."""
        if self._journal is not None:
            return _Joined(self._journal)
        return {i: RoutedTokens.concatenate(self._parts[i]) for i in sorted(self._parts)}


class SumStore:
    """Keeps sums for some criteria; all else as in `FullStore`."""

    def __init__(
        self, router: Router, criteria: Sequence[str], journal: Journal | None = None
    ) -> None:
        self._router = router
        self._criteria = tuple(criteria)
        self._journal = journal
        self._totals: dict[int, LayerSums] = {}
        self.done: set[int] = set(journal.done) if journal is not None else set()
        if journal is not None:
            for index in journal.layers():
                self._totals[index] = LayerSums(next(journal.parts(index)))

    def add(self, demos: Sequence[int], parts: Mapping[int, RoutedTokens]) -> None:
        for index, part in parts.items():
            found = sums(part, index, self._router.num_experts, self._criteria)
            before = self._totals.get(index)
            self._totals[index] = found if before is None else before + found
        self.done |= set(demos)
        if self._journal is not None:
            arrays = {index: total.arrays for index, total in self._totals.items()}
            self._journal.add(sorted(self.done), arrays)

    def add_layer(self, layer: int, part: RoutedTokens) -> None:
        found = sums(part, layer, self._router.num_experts, self._criteria)
        self._totals[layer] = found
        if self._journal is not None:
            self._journal.add_layer(layer, found.arrays)

    def layer(self, index: int) -> LayerSums:
        """The sums over all tokens of one layer."""
        return self._totals[index]

    def layers(self) -> Mapping[int, LayerSums]:
        """Layer index -> sums over all tokens."""
        return dict(sorted(self._totals.items()))


class _Joined(Mapping[int, RoutedTokens]):
    """The records in a journal, one layer in memory at a time."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._layers = journal.layers()

    def __getitem__(self, layer: int) -> RoutedTokens:
        if layer not in self._layers:
            raise KeyError(layer)
        parts: list[dict[str, Any]] = list(self._journal.parts(layer))
        return RoutedTokens.concatenate([RoutedTokens(**part) for part in parts])

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
