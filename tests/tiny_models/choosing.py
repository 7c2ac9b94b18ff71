"""A random selection of a checkpoint's experts."""

import random
from pathlib import Path

from easyep.architectures.spec import find_architecture
from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.layout import resolve


def choose_at_random(
    path: Path,
    keep: int | None = None,
    groups: str = "balanced",
    seed: int = 0,
    mtp: bool = True,
) -> Selection:
    """A selection for the checkpoint in `path`, of half of the experts unless `keep` says it."""
    checkpoint = Checkpoint.open(path)
    layout = resolve(checkpoint, find_architecture(checkpoint.config))
    router = layout.router
    keep = keep or router.num_experts // 2
    n_group = router.n_group if groups == "balanced" else 1
    size = router.num_experts // n_group
    rng = random.Random(seed)

    def experts() -> tuple[int, ...]:
        blocks = (range(g * size, (g + 1) * size) for g in range(n_group))
        return tuple(sorted(e for b in blocks for e in rng.sample(b, keep // n_group)))

    layers = [index for index, layer in layout.layers.items() if mtp or not layer.is_mtp]
    return Selection(
        model=checkpoint.identity("tiny"),
        num_experts=router.num_experts,
        keep=keep,
        groups=groups,
        criterion="random",
        layers={layer: experts() for layer in layers},
    )
