"""Attention of long sequences without a matrix of scores for all heads at once.

On a CPU, PyTorch forms that matrix where keys are wider than values, as in multi-head latent
attention (DeepSeek-V2, arXiv 2405.04434): 128 heads of 4,096 tokens take 24 GB.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

AT_ONCE = 256_000_000  # bytes of scores and what is made from them
SCORE = 12  # bytes: in float32 before and after the softmax, and in the model's own type


class InPieces(TorchFunctionMode):
    """Within it, such attention is computed for a few heads at a time.

    A head's numbers do not depend on that. Where one head alone takes too much, values are padded
    with zeros to the width of keys, so that PyTorch's way without a matrix of scores is taken,
    which rounds otherwise.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **choices: Any,
) -> Tensor:
    """`scaled_dot_product_attention` of [..., heads, T, D], [..., heads, S, D] and [..., S, V]."""
    choices |= {"dropout_p": dropout_p, "is_causal": is_causal}
    whole = functional.scaled_dot_product_attention
    width, wide = value.shape[-1], key.shape[-1]
    counts = {each.shape[-3] if each.ndim > 2 else 0 for each in (query, key, value)}
    heads = counts.pop()
    if query.device.type != "cpu" or width >= wide or counts or not heads:
        return whole(query, key, value, attn_mask, **choices)
    each = query[..., 0, :, 0].numel() * key.shape[-2] * SCORE
    count = AT_ONCE // each
    if count >= heads:
        return whole(query, key, value, attn_mask, **choices)
    if count < 1:
        padded = functional.pad(value, (0, wide - width))
        return whole(query, key, padded, attn_mask, **choices)[..., :width]
    pieces = []
    for first in range(0, heads, count):
        some = slice(first, first + count)
        mask = attn_mask
        if mask is not None and mask.ndim > 2 and mask.shape[-3] == heads:
            mask = mask[..., some, :, :]
        q, k, v = (each[..., some, :, :] for each in (query, key, value))
        pieces.append(whole(q, k, v, mask, **choices))
    return torch.cat(pieces, dim=-3)
