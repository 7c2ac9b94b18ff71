"""Tiny checkpoints of all families, built once, and selections for them."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from easyep.architectures.spec import find_architecture
from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.layout import resolve
from tests.tiny_models import WITH_MTP, build

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """family -> its tiny checkpoint, with an MTP layer where the family has them; read only."""
    built: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in built:
            path = tmp_path_factory.mktemp(family) / "source"
            built[family] = build(family, path, mtp=int(family in WITH_MTP))
            (path / "tokenizer.json").write_text('{"model": "none"}')
            (path / "LICENSE").write_text("as you like")
            (path / "README.md").write_text("the source's card")
        return built[family]

    return get


@pytest.fixture(scope="session")
def choose() -> Chooser:
    """(path, keep, groups, seed, mtp) -> a random selection."""

    def chosen(
        path: Path,
        keep: int | None = None,
        groups: str = "balanced",
        seed: int = 0,
        mtp: bool = True,
    ) -> Selection:
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

    return chosen
