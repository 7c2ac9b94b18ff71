"""One domain's run: what is to be observed, and what tells it apart from others."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from easyep.artifacts import TokenSequence
from easyep.diffusion import mask_ratios, recorded_tokens
from easyep.recipe import Recipe
from easyep.records import RecordPlan, plan_records
from easyep.source import Source


@dataclass(frozen=True)
class Run:
    """What is to be observed.

    Attributes:
        recipe: how.
        source: the model.
        domain: the domain's name.
        sequences: its demonstrations.
        criteria: those that must be possible if only sums are kept.
        runner: the name of the runner.
        observes_mtp: whether it runs multi-token-prediction layers.
    """

    recipe: Recipe
    source: Source
    domain: str
    sequences: tuple[TokenSequence, ...]
    criteria: tuple[str, ...]
    runner: str = "memory"
    observes_mtp: bool = True

    @property
    def mtp_layers(self) -> tuple[int, ...]:
        """The multi-token-prediction layers that are observed too."""
        return self._scored_mtp if self.observes_mtp else ()

    @property
    def passed_over(self) -> tuple[int, ...]:
        """The multi-token-prediction layers that another runner would observe."""
        return () if self.observes_mtp else self._scored_mtp

    @property
    def _scored_mtp(self) -> tuple[int, ...]:
        return self.source.scored_mtp(self.recipe.mtp)

    @property
    def layers(self) -> list[int]:
        """All layers that must be observed."""
        layout = self.source.layout
        return sorted([*layout.moe_layers, *layout.second_layers, *self.mtp_layers])

    @property
    def mask_ratios(self) -> tuple[float, ...]:
        """The shares of hidden tokens at which a diffusion model is observed."""
        return mask_ratios(self.recipe, self.source)

    @property
    def recorded(self) -> int:
        """Tokens in a layer's record."""
        response = sum(int(sequence.is_response.sum()) for sequence in self.sequences)
        tokens = sum(map(len, self.sequences))
        return recorded_tokens(tokens, response, self.source, self.mask_ratios)

    def plan(self, place: Path | None) -> RecordPlan:
        """What the run keeps, saved on the disk of `place` or in memory."""
        return plan_records(
            self.recipe.records,
            self.criteria,
            tokens=self.recorded,
            layers=len(self.layers),
            router=self.source.router,
            place=place,
        )

    def key(self, criteria: tuple[str, ...] = ()) -> str:
        """Tells apart observations of different things, and sums for different criteria."""
        made_from = {
            "model": {**self.source.identity.to_json(), "name": ""},
            "demos": [sequence.sha256 for sequence in self.sequences],
            "dtype": self.recipe.dtype,
            "device": self.recipe.device,
            "mtp": bool(self.mtp_layers),
            **({"mask_ratios": self.mask_ratios} if self.mask_ratios else {}),
            **({"criteria": sorted(criteria)} if criteria else {}),
        }
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
