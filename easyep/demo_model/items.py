"""What one question of the demo world is, and which split it belongs to.

The split of an item follows from its own text: a hash of the domain and the normalised prompt. So
training, calibration and evaluation are disjoint by construction, whoever generates them, in
whatever order, with whatever seed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "calibration", "evaluation"]

#: Shares in per mille of the hash space. What is left over is for training.
CALIBRATION_SHARE = 50
EVALUATION_SHARE = 150


@dataclass(frozen=True)
class Item:
    """A question with the reference response and the answer that is checked."""

    domain: str
    kind: str
    prompt: str
    response: str
    answer: str

    @property
    def key(self) -> str:
        """The prompt without what does not make it another question: case and white space."""
        return " ".join(self.prompt.casefold().split())

    @property
    def bucket(self) -> int:
        """A number in [0, 1000), the same on every machine (`hash()` would not be)."""
        digest = hashlib.sha256(f"{self.domain}\n{self.key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % 1000

    @property
    def split(self) -> Split:
        """The one split that may use this item."""
        if self.bucket < EVALUATION_SHARE:
            return "evaluation"
        if self.bucket < EVALUATION_SHARE + CALIBRATION_SHARE:
            return "calibration"
        return "train"


def draw(
    sample: Callable[[random.Random], Item], rng: random.Random, split: Split
) -> Iterator[Item]:
    """Items of one split without end, with repetitions."""
    while True:
        item = sample(rng)
        if item.split == split:
            yield item


def draw_distinct(
    sample: Callable[[random.Random], Item], rng: random.Random, split: Split, count: int
) -> list[Item]:
    """`count` items of one split, no two of them the same question."""
    found: dict[str, Item] = {}
    for item in draw(sample, rng, split):
        found.setdefault(item.key, item)
        if len(found) == count:
            break
    return list(found.values())
