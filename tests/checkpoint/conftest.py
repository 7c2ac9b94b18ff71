"""Tiny checkpoints of all families, built once, and selections for them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from easyep.artifacts.selection import Selection
from tests.tiny_models import WITH_MTP, build
from tests.tiny_models.choosing import choose_at_random

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
    return choose_at_random
