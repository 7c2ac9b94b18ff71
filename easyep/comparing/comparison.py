"""What a comparison found."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from easyep.comparing.answers import Answer, Health, health
from easyep.comparing.estimates import Mean, clustered_mean
from easyep.comparing.predictions import Distances

SCHEMA = 1


@dataclass(frozen=True)
class Generation:
    """Greedy answers of both models to the same prompts.

    Attributes:
        first, second: how healthy they are.
        drift: by how many tokens the second model's answers are longer.
        same: the share of answers that are the same, token by token.
    """

    first: Health
    second: Health
    drift: Mean
    same: float


@dataclass(frozen=True)
class DomainComparison:
    """Two models on one domain.

    Attributes:
        domain: its name; ``"all"`` for all domains together.
        demos, tokens: how much text counted.
        held_out: whether none of it was shown when the second model was pruned; None where that
            is not known.
        divergence: KL(P || Q) per token in nats, P the first model's distribution.
        median, p99: of the divergence, over tokens.
        agreement: the share of tokens for which both models find the same one likeliest.
        first_loss, second_loss: in nats per token; exp of it is the perplexity.
        loss_difference: second - first.
        generation: None where nothing was generated.
    """

    domain: str
    demos: int
    tokens: int
    held_out: bool | None
    divergence: Mean
    median: float
    p99: float
    agreement: Mean
    first_loss: Mean
    second_loss: Mean
    loss_difference: Mean
    generation: Generation | None = None


@dataclass(frozen=True)
class Comparison:
    """Two models on some domains.

    Attributes:
        first: the reference, as the user called it.
        second: what is held against it.
        domains: one entry for each domain, and one for all where there are several.
        settings: everything else that the numbers depend on.
    """

    first: str
    second: str
    domains: tuple[DomainComparison, ...]
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


def on_domain(
    domain: str,
    distances: Sequence[Distances],
    answers: tuple[Sequence[Answer], Sequence[Answer]],
    held_out: bool | None,
) -> DomainComparison:
    """Put together what was found on one domain.

    Args:
        domain: its name.
        distances: one entry for each demonstration.
        answers: the first and the second model's, to the same prompts; may be none.
        held_out: as in `DomainComparison`.
    """
    every = np.concatenate([each.divergence for each in distances])
    return DomainComparison(
        domain=domain,
        demos=len(distances),
        tokens=len(every),
        held_out=held_out,
        divergence=clustered_mean([each.divergence for each in distances]),
        median=float(np.median(every)),
        p99=float(np.quantile(every, 0.99)),
        agreement=clustered_mean([each.agreement for each in distances]),
        first_loss=clustered_mean([each.first_loss for each in distances]),
        second_loss=clustered_mean([each.second_loss for each in distances]),
        loss_difference=clustered_mean([e.second_loss - e.first_loss for e in distances]),
        generation=_generation(*answers) if answers[0] else None,
    )


def _generation(first: Sequence[Answer], second: Sequence[Answer]) -> Generation:
    pairs = list(zip(first, second, strict=True))
    return Generation(
        health(first),
        health(second),
        drift=clustered_mean([np.array([float(len(b.ids) - len(a.ids))]) for a, b in pairs]),
        same=sum(a.ids == b.ids and a.finished == b.finished for a, b in pairs) / len(pairs),
    )
