"""Small files that are compared, which need not be small."""

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyep.checkpoint.config_comparison import small_file_problems
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.verification import verify
from tests.checkpoint.raw_files import deepseek_fp8

Sources = Callable[[str], Path]


@pytest.fixture
def pair(
    source: Sources, choose: Callable[..., Any], tmp_path: Path
) -> tuple[Checkpoint, Checkpoint]:
    """A pruned checkpoint and its source."""
    path = source("mixtral")
    rewrite(path, choose(path), tmp_path / "out")
    return Checkpoint.open(tmp_path / "out"), Checkpoint.open(path)


def problems(pair: tuple[Checkpoint, Checkpoint]) -> list[str]:
    return list(small_file_problems(*pair, lambda name: name))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"as you like", []),
        (b"as you like!", ["LICENSE differs from the source's"]),
        (b"as you hate", ["LICENSE differs from the source's"]),
        (b"", ["LICENSE differs from the source's"]),
        (None, ["LICENSE of the source is missing"]),
    ],
)
def test_what_differs_is_found(
    pair: tuple[Checkpoint, Checkpoint], content: bytes | None, found: list[str]
) -> None:
    file = pair[0].path / "LICENSE"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert problems(pair) == found


@pytest.mark.parametrize(
    ("text", "other", "found"),
    [
        ("NaN", "NaN", []),
        ("[1, NaN]", "[1, NaN]", []),
        ("NaN", "1", ["more is 1, in the source nan"]),
        ("1", "true", ["more is True, in the source 1"]),
        ("1", "1.0", ["more is 1.0, in the source 1"]),
        ("{}", "null", ["more is None, in the source {}"]),
    ],
)
def test_the_configuration_is_compared_as_it_is_written(
    choose: Callable[..., Any], tmp_path: Path, text: str, other: str, found: list[str]
) -> None:
    path = deepseek_fp8(tmp_path / "m")
    config = path / "config.json"
    config.write_text(config.read_text().replace("{", f'{{"more": {text},', 1))
    out = rewrite(path, choose(path), tmp_path / "out").path
    config = out / "config.json"
    config.write_text(config.read_text().replace(f'"more": {text}', f'"more": {other}'))
    (check,) = [each for each in verify(out, path).checks if each.name == "configuration"]
    assert check.ok == (not found)
    assert not found or check.detail == found[0]


def test_large_files_are_not_held_in_memory(
    choose: Callable[..., Any], source: Sources, tmp_path: Path
) -> None:
    path = shutil.copytree(source("mixtral"), tmp_path / "m")
    with open(path / "video.mp4", "wb") as file:
        file.truncate(50_000_000)
    rewrite(path, choose(path), tmp_path / "out")
    pair = Checkpoint.open(tmp_path / "out"), Checkpoint.open(path)
    tracemalloc.start()
    assert not problems(pair)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    with open(pair[0].path / "video.mp4", "rb+") as file:
        file.seek(49_999_999)
        file.write(b"x")
    assert problems(pair) == ["video.mp4 differs from the source's"]
