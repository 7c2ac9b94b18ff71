"""How far the routed experts turn a token's representation."""

import torch
from torch import Tensor


def residual_shift(before: Tensor, routed: Tensor) -> Tensor:
    """s = 1 - cos(h, h + r) of every token.

    Computed as half the squared distance of the two unit vectors: in floating point 1 - cos loses
    all its digits where the shift is small, and this does not (arXiv 2504.06792 for the
    definition). Never below 0; 1 where only one of the two vectors is zero, whose cosine counts
    as 0, as in torch.

    Args:
        before: h [T, H], the residual stream before the MoE block.
        routed: r [T, H], what the routed experts add to it.

    Returns:
        float32 [T].
    """
    before = before.float()
    after = before + routed.float()
    sizes = [torch.linalg.vector_norm(h, dim=-1, keepdim=True) for h in (before, after)]
    tiny = torch.finfo(torch.float32).tiny
    difference = after.div_(sizes[1].clamp_min(tiny)).sub_(before / sizes[0].clamp_min(tiny))
    shift = torch.linalg.vector_norm(difference, dim=-1).square() / 2
    one_is_zero = ((sizes[0] == 0) != (sizes[1] == 0)).squeeze(-1)
    return torch.where(one_is_zero, 1.0, shift)
