"""A pruned checkpoint computes what the original does with the other experts out of reach."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import AutoModelForCausalLM

from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
from tests.tiny_models import RUNNABLE, build

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]


def load(path: Path, **config: Any) -> Any:
    model, info = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, output_loading_info=True, **config
    )
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert not [name for name in info["unexpected_keys"] if "layers.3." not in name]  # MTP
    return model.eval()


def mask(model: Any, selection: Selection) -> None:
    """Put the experts that are not selected out of the routers' reach."""
    for layer, kept in selection.layers.items():
        if layer >= len(model.model.layers):
            continue
        modules = model.model.layers[layer].named_modules()
        (router,) = (m for _, m in modules if type(m).__name__.lower().endswith("topkrouter"))
        dropped = [e for e in range(selection.num_experts) if e not in kept]
        if hasattr(router, "e_score_correction_bias"):
            router.e_score_correction_bias[dropped] = -torch.inf
        else:
            router.forward = masked(router.forward, dropped)


def masked(forward: Callable[..., Any], dropped: list[int]) -> Callable[..., Any]:
    """A router's forward whose logits of the dropped experts are -inf."""
    linear = torch.nn.functional.linear

    def logits(*arguments: Any) -> torch.Tensor:
        out: torch.Tensor = linear(*arguments)
        out[..., dropped] = -torch.inf
        return out

    def patched(*arguments: Any) -> Any:
        with mock.patch.object(torch.nn.functional, "linear", logits):
            return forward(*arguments)

    return patched


def logits_of(model: Any) -> torch.Tensor:
    ids = torch.randint(64, (4, 12), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        out: torch.Tensor = model(ids).logits
    return out


def assert_same(path: Path, selection: Selection, out: Path, **config: Any) -> None:
    original = load(path, **config)
    untouched = logits_of(original)
    mask(original, selection)
    expected = logits_of(original)
    pruned = load(rewrite(path, selection, out).path)
    torch.testing.assert_close(logits_of(pruned), expected, rtol=1e-4, atol=1e-4)
    assert (expected - untouched).abs().max() > 0.05, "the mask changed nothing"


@pytest.mark.parametrize("family", RUNNABLE)
def test_balanced(source: Sources, choose: Chooser, tmp_path: Path, family: str) -> None:
    assert_same(source(family), choose(source(family)), tmp_path / "out")


@pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe"])
def test_flatten_is_the_original_with_grouping_off(
    source: Sources, choose: Chooser, tmp_path: Path, family: str
) -> None:
    selection = choose(source(family), 5, "flatten")
    assert_same(source(family), selection, tmp_path / "out", n_group=1, topk_group=1)


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
    assert_same(path, choose(path, keep, groups), tmp_path / "out", **off)


def test_single_file_and_bfloat16(choose: Chooser, tmp_path: Path) -> None:
    path = build("qwen3_moe", tmp_path / "m", dtype="bfloat16", shard_bytes=None, seed=3)
    assert_same(path, choose(path), tmp_path / "out")


@pytest.mark.parametrize("family", ["gpt_oss", "deepseek_v3"])
def test_greedy_tokens_after_reload(
    source: Sources, choose: Chooser, tmp_path: Path, family: str
) -> None:
    selection = choose(source(family))
    original = load(source(family))
    mask(original, selection)
    pruned = load(rewrite(source(family), selection, tmp_path / "out").path)
    ids = torch.tensor([[2, 3, 4]])
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    tokens = [model.generate(ids, **settings) for model in (original, pruned)]
    assert torch.equal(*tokens)
