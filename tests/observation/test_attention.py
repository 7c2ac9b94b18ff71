"""Attention in pieces is the same attention."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from easyep.observation import attention
from easyep.observation.attention import InPieces

HEADS, TOKENS = 6, 33


def reference(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """In float64, by the definition."""
    query, key, value = (each.double() for each in (query, key, value))
    scores = query @ key.transpose(-1, -2) * 0.3
    return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how", ["causal", "mask", "mask of each head"])
@pytest.mark.parametrize("heads_at_once", [0, 1, 4, 6])
def test_pieces_are_the_whole(
    dtype: torch.dtype, how: str, heads_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "AT_ONCE", heads_at_once * 2 * TOKENS**2 * attention.SCORE)
    draw = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, HEADS, TOKENS, 24, generator=draw).to(dtype) for _ in "qk")
    value = torch.randn(2, HEADS, TOKENS, 16, generator=draw).to(dtype)
    causal = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    mask = causal if how != "mask of each head" else causal.expand(2, HEADS, -1, -1)
    given: dict[str, Any] = {"is_causal": True} if how == "causal" else {"attn_mask": mask}
    whole = functional.scaled_dot_product_attention(query, key, value, scale=0.3, **given)
    with InPieces():
        found = functional.scaled_dot_product_attention(query, key, value, scale=0.3, **given)
    assert found.shape == whole.shape
    if heads_at_once:
        assert torch.equal(found, whole)
    close = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    expected = reference(query, key, value, mask)
    torch.testing.assert_close(found.double(), expected, rtol=close, atol=close)


def test_other_attention_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "AT_ONCE", 1)
    query, key, value = (torch.randn(1, heads, 5, 8) for heads in (4, 2, 2))
    given: dict[str, Any] = {"is_causal": True, "enable_gqa": True}
    whole = functional.scaled_dot_product_attention(query, key, value, **given)
    with InPieces():
        found = functional.scaled_dot_product_attention(query, key, value, **given)
        assert torch.equal(torch.ones(2) + 1, torch.full((2,), 2.0))
    assert torch.equal(found, whole)


def test_attention_without_heads_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "AT_ONCE", 1)
    query, value = torch.randn(5, 8), torch.randn(5, 4)
    whole = functional.scaled_dot_product_attention(query, query, value)
    with InPieces():
        assert torch.equal(functional.scaled_dot_product_attention(query, query, value), whole)


@pytest.mark.parametrize("at_once", [1, 2 * TOKENS**2 * attention.SCORE])
def test_choices_may_be_given_by_their_places(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "AT_ONCE", at_once)
    query, key = (torch.randn(2, HEADS, TOKENS, 24) for _ in "qk")
    value = torch.randn(2, HEADS, TOKENS, 16)
    whole = functional.scaled_dot_product_attention(query, key, value, None, 0.0, True)
    with InPieces():
        found = functional.scaled_dot_product_attention(query, key, value, None, 0.0, True)
    torch.testing.assert_close(found, whole)
