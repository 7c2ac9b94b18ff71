"""How far the routed experts turn a token's representation."""

import torch
from torch import Tensor

from easyep.observation.row_norms import pieces, row_norms


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
    return torch.cat([_shift(h, r) for h, r in zip(pieces(before), pieces(routed), strict=True)])


def _shift(before: Tensor, routed: Tensor) -> Tensor:
    after = before.float() + routed
    sizes, sizes_after = row_norms(before), row_norms(after)
    tiny = torch.finfo(torch.float32).tiny
    # h' is brought to the length of h, and not both to 1: one pass over memory less.
    longer = sizes / sizes_after.clamp_min(tiny)
    distance = row_norms(torch.addcmul(before, after, longer[:, None], value=-1))
    shift = (distance / sizes.clamp_min(tiny)).square() / 2
    return torch.where((sizes == 0) != (sizes_after == 0), 1.0, shift)
