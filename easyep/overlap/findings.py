"""What a study of stability found."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ObservedSet:
    """One observation: what it is called, the domain it counts for, and how much it holds."""

    name: str
    domain: str
    demos: int
    tokens: int


@dataclass(frozen=True)
class ByNumber:
    """What so many demonstrations of a set choose.

    Attributes:
        set: the set's name.
        keep: experts per layer.
        demos: demonstrations in each sample.
        samples: how many were drawn.
        overlap: share of the experts that the whole set keeps, mean over layers and samples.
        spread: standard deviation over samples.
        disjoint: overlap between two samples without a common demonstration; None where the set
            is too small for two.
    """

    set: str
    keep: int
    demos: int
    samples: int
    overlap: float
    spread: float
    disjoint: float | None


@dataclass(frozen=True)
class BetweenSets:
    """How much two sets agree, mean over layers, and in the layer where they agree least."""

    sets: tuple[str, str]
    same_domain: bool
    keep: int
    overlap: float
    least: float
    least_layer: int


@dataclass(frozen=True)
class Stability:
    """What the studies found.

    Attributes:
        criterion, groups, tokens, seed: how experts were scored and chosen.
        num_experts: routed experts per layer (E); by chance two sets of M share M / E.
        keep: the budgets.
        sets: the observations.
        by_number: for each set, budget and number of demonstrations.
        between: for each pair of sets and budget.
    """

    criterion: str
    groups: str
    tokens: str
    seed: int
    num_experts: int
    keep: tuple[int, ...]
    sets: tuple[ObservedSet, ...]
    by_number: tuple[ByNumber, ...]
    between: tuple[BetweenSets, ...]
    schema: int = field(default=1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
