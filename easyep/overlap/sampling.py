"""What samples of an observation's demonstrations would have chosen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from easyep.artifacts import Observations, RoutedTokens, Scores
from easyep.criteria import Layer, RecordCriterion, SummedCriterion
from easyep.selection import nested

Float64 = npt.NDArray[np.float64]
Kept = tuple[frozenset[int], ...]  # one set of experts for each budget


@dataclass(frozen=True)
class Chooser:
    """How experts are scored and chosen."""

    criterion: str
    method: RecordCriterion
    counts: Sequence[int]
    groups: str
    seed: int

    def parts(self, record: RoutedTokens, index: int, seen: Observations) -> "Parts":
        return Parts(self, record, Layer(index, seen.router.num_experts, self.seed), seen)


class Parts:
    """A layer's record, cut by demonstration, so that samples of them are chosen from quickly."""

    def __init__(
        self, chooser: Chooser, record: RoutedTokens, layer: Layer, seen: Observations
    ) -> None:
        self._chooser, self._record, self._layer, self._seen = chooser, record, layer, seen
        self._sums: Float64 | None = None
        method = chooser.method
        if isinstance(method, SummedCriterion):
            demos = range(len(seen.demos))
            each = [method.sums(record.where(record.demo == demo), layer) for demo in demos]
            self._sums = np.stack(each)

    def kept(self, demos: Sequence[int]) -> Kept:
        """The experts that these demonstrations alone keep, for each budget."""
        method, layer = self._chooser.method, self._layer
        if self._sums is not None and isinstance(method, SummedCriterion):
            found = method.from_sums(self._sums[list(demos)].sum(axis=0))
        else:
            chosen = self._record.where(np.isin(self._record.demo, list(demos)))
            found = np.asarray(method.score(chosen, layer), dtype=np.float64)
        pairs = found.ndim == 2
        scores = Scores(
            criterion=self._chooser.criterion,
            model=self._seen.model,
            router=self._seen.router,
            observations=(),
            layers={layer.index: found.diagonal().copy() if pairs else found},
            pairs={layer.index: found} if pairs else {},
        )
        chosen_sets = nested(scores, self._chooser.counts, groups=self._chooser.groups)
        return tuple(frozenset(each.layers[layer.index]) for each in chosen_sets)


def samples_of(
    total: int, sizes: Sequence[int], count: int, seed: Sequence[int]
) -> Iterator[tuple[list[int], list[int]]]:
    """Demonstrations of each sample, and of a second one that shares none with it, if any."""
    for size in sorted({size for size in sizes if 0 < size < total}):
        for number in range(count):
            order = np.random.default_rng([*seed, size, number]).permutation(total).tolist()
            yield order[:size], order[size : 2 * size] if 2 * size <= total else []
