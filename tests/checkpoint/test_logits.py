"""A pruned checkpoint computes what the original does with the other experts out of reach."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
from easyep.masking import mask
from easyep.source import Source
from tests.tiny_models import RUNNABLE, build, load

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]


def logits_of(model: Any) -> torch.Tensor:
    ids = torch.randint(2, 56, (4, 12), generator=torch.Generator().manual_seed(7))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)  # a diffusion model begins with random tokens
        out: torch.Tensor = model(ids).logits
    return out


def assert_same(family: str, path: Path, selection: Selection, out: Path, **config: Any) -> None:
    original = load(family, path, **config)
    untouched = logits_of(original)
    pruned = load(family, rewrite(path, selection, out).path)
    source = Source.open(path)
    with mask(original, selection, source.architecture, source.layout):
        expected = logits_of(original)
    torch.testing.assert_close(logits_of(pruned), expected, rtol=1e-4, atol=1e-4)
    assert (expected - untouched).abs().max() > 0.05, "the mask changed nothing"
    torch.testing.assert_close(logits_of(original), untouched, rtol=0, atol=0)


@pytest.mark.parametrize("family", RUNNABLE)
def test_balanced(source: Sources, choose: Chooser, tmp_path: Path, family: str) -> None:
    assert_same(family, source(family), choose(source(family)), tmp_path / "out")


@pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe"])
def test_flatten_is_the_original_with_grouping_off(
    source: Sources, choose: Chooser, tmp_path: Path, family: str
) -> None:
    selection = choose(source(family), 5, "flatten")
    assert_same(family, source(family), selection, tmp_path / "out", n_group=1, topk_group=1)


@pytest.mark.parametrize(("groups", "keep"), [("balanced", 8), ("balanced", 4), ("flatten", 8)])
def test_groups_of_deepseek_v2(choose: Chooser, tmp_path: Path, groups: str, keep: int) -> None:
    path = build(
        "deepseek_v2",
        tmp_path / "m",
        num_experts=16,
        topk_method="group_limited_greedy",
        n_group=4,
        topk_group=2,
    )
    off = {"n_group": 1, "topk_group": 1} if groups == "flatten" else {}
    assert_same("deepseek_v2", path, choose(path, keep, groups), tmp_path / "out", **off)


def test_single_file_and_bfloat16(choose: Chooser, tmp_path: Path) -> None:
    path = build("qwen3_moe", tmp_path / "m", dtype="bfloat16", shard_bytes=None, seed=3)
    assert_same("qwen3_moe", path, choose(path), tmp_path / "out")


@pytest.mark.parametrize("family", ["gpt_oss", "deepseek_v3"])
def test_greedy_tokens_after_reload(
    source: Sources, choose: Chooser, tmp_path: Path, family: str
) -> None:
    selection = choose(source(family))
    original = load(family, source(family))
    model = Source.open(source(family))
    mask(original, selection, model.architecture, model.layout)
    pruned = load(family, rewrite(source(family), selection, tmp_path / "out").path)
    ids = torch.tensor([[2, 3, 4]])
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    tokens = [model.generate(ids, **settings) for model in (original, pruned)]
    assert torch.equal(*tokens)
