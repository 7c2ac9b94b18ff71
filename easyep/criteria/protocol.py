"""What a criterion is, and how one is added.

Most are a function of one token and one expert that is added up or averaged: `criterion` makes a
criterion of such a function. Those that need more are objects with a method of their own:
`RecordCriterion` sees all tokens of a layer at once, `WeightCriterion` sees the layer's weights
and no token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from easyep.artifacts import RoutedTokens
from easyep.registry import Registry

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
PerRoute = Callable[[RoutedTokens], npt.NDArray[Any]]
Written = TypeVar("Written")  # a function (PerRoute), or a class or object that is a criterion


@dataclass(frozen=True)
class Layer:
    """Where a criterion is: the layer's index, its number of experts E, and the run's seed."""

    index: int
    num_experts: int
    seed: int = 0


class LayerWeights(Protocol):
    """The weights of one layer, decoded when they are asked for.

    Both methods raise UnsupportedModelError where the checkpoint stores them in a way that
    easyep does not decode, and ArtifactError where no model was given.
    """

    def router(self) -> Float32:
        """The router's weight, float32 [E, hidden]."""

    def expert(self, number: int) -> Iterator[Float32]:
        """The matrices of one expert in float32, in pieces of any shape; no biases."""


@runtime_checkable
class RecordCriterion(Protocol):
    """Anything that turns one layer's record into scores.

    One whose scores are of pairs has an attribute ``pairs = True``, so that what such scores need
    is checked before the model runs.
    """

    @property
    def summary(self) -> str:
        """One sentence for `easyep list criteria`."""

    def score(self, tokens: RoutedTokens, layer: Layer) -> Float64:
        """What the record says of the experts.

        Returns:
            Either float64 [E], one score per expert: the highest are kept, and experts that no
            token reached have 0. Or float64 [E, E], symmetric, none below 0: what it costs to
            drop two experts together, on the diagonal one alone; the set whose p'Fp is least is
            dropped (p is 1 for a dropped expert).
        """


@runtime_checkable
class SummedCriterion(RecordCriterion, Protocol):
    """A criterion whose scores follow from sums over tokens, so that records can be added up."""

    def sums(self, tokens: RoutedTokens, layer: Layer) -> Float64:
        """Numbers of any shape; those of two parts of a record add up to those of the whole."""

    def from_sums(self, sums: Float64) -> Float64:
        """What `score` says of the record that the sums are of."""


@runtime_checkable
class WeightCriterion(Protocol):
    """Anything that scores experts by their weights, without data."""

    @property
    def summary(self) -> str:
        """One sentence for `easyep list criteria`."""

    def score_weights(self, weights: LayerWeights, layer: Layer) -> Float64:
        """One score per expert, float64 [E], none below 0; the highest are kept."""


Criterion = RecordCriterion | WeightCriterion


def _checked(thing: Any) -> Criterion:
    """A criterion that somebody wrote: an object, or a class to be called."""
    found = thing() if isinstance(thing, type) else thing
    if not isinstance(found, (RecordCriterion, WeightCriterion)):
        raise TypeError(
            "it has neither score(tokens, layer) nor score_weights(weights, layer), with a summary "
            "(a function needs the decorator easyep.criterion, with the entry point's name)"
        )
    return found


CRITERIA: Registry[Criterion] = Registry("criterion", "easyep.criteria", _checked)


@dataclass(frozen=True)
class RoutedCriterion:
    """A criterion that adds up, or averages, one number per (token, expert) pair.

    Attributes:
        per_route: RoutedTokens -> numbers [T, k].
        reduce: ``"sum"`` over the tokens routed to an expert, or their ``"mean"``.
        summary: one sentence for `easyep list criteria`.
    """

    per_route: PerRoute
    reduce: Literal["sum", "mean"]
    summary: str

    def score(self, tokens: RoutedTokens, layer: Layer) -> Float64:
        return self.from_sums(self.sums(tokens, layer))

    def sums(self, tokens: RoutedTokens, layer: Layer) -> Float64:
        """What the score is computed from, float64 [2, E]: totals and numbers of routes.

        Those of two parts of a record add up to those of the whole.
        """
        experts = tokens.expert_ids.ravel()
        values = np.asarray(self.per_route(tokens))
        if values.shape != tokens.expert_ids.shape:
            raise ValueError(
                f"it must return one number per token and expert, {list(tokens.expert_ids.shape)}, "
                f"not {list(values.shape)}"
            )
        count = layer.num_experts
        taken = tokens.weights.ravel() != 0  # weight 0 means that the token took no such route
        return np.stack(
            [
                np.bincount(experts[taken], values.ravel()[taken].astype(np.float64), count),
                np.bincount(experts[taken], minlength=count).astype(np.float64),
            ]
        )

    def from_sums(self, sums: Float64) -> Float64:
        """The scores [E] that belong to `sums` of all tokens."""
        total: Float64 = sums[0]
        return np.divide(total, np.maximum(sums[1], 1)) if self.reduce == "mean" else total


def needs_record(name: str) -> bool:
    """Whether the model has to run on demonstrations for this criterion.

    Raises:
        UnknownNameError: there is no such criterion.
    """
    return isinstance(CRITERIA[name], RecordCriterion)


def scores_pairs(name: str) -> bool:
    """Whether the criterion says what pairs of experts cost; errors as in `needs_record`."""
    return bool(getattr(CRITERIA[name], "pairs", False))


# Names that a criterion of one's own cannot take.
BUILT_IN: set[str] = set()


def criterion(name: str, reduce: Literal["sum", "mean"] = "sum") -> Callable[[Written], Written]:
    """Register a criterion: a function of RoutedTokens that returns one number per route, [T, k].

    Or a class with the methods of `RecordCriterion` or `WeightCriterion`, or an object of one. What
    is decorated stays as it is; `easyep.score(..., criterion=name)` and the command line know it
    from then on. A function's first line of documentation is what `easyep list criteria` shows.

    Args:
        name: what it is to be called: none of easyep's own; one of yours is replaced.
        reduce: of a function, ``"sum"`` or ``"mean"`` over the tokens routed to an expert.

    Raises:
        ValueError: easyep has a criterion of that name, or there is no such way to reduce.
        TypeError: what is decorated is neither.
    """

    if not isinstance(name, str) or not name or name != "".join(name.split()):
        raise ValueError(
            f"a criterion's name is a word, as in @easyep.criterion('mine'), not {name!r}"
        )
    if reduce not in ("sum", "mean"):
        raise ValueError(f"reduce must be 'sum' or 'mean', not {reduce!r}")
    if name in BUILT_IN:
        raise ValueError(f"{name!r} is a criterion of easyep; give yours another name")

    def register(written: Written) -> Written:
        is_function = callable(written) and not isinstance(
            written, (type, RecordCriterion, WeightCriterion)
        )
        if is_function:
            summary = (written.__doc__ or "").strip().split("\n")[0]
            CRITERIA.register(name, RoutedCriterion(cast(PerRoute, written), reduce, summary))
        elif reduce != "sum":
            raise ValueError("reduce is for functions; a class or an object reduces by itself")
        else:
            CRITERIA.register(name, _checked(written))
        return written

    return register
