"""Quantised tensors -> numbers, as each format's writer defines it.

Every function takes the stored tensors and gives the values in `dtype`; the product of code and
scale is formed in float32 and rounded once. Shapes: R rows, C columns of the matrix; leading axes,
as of experts that are stacked, are kept.
"""

import torch
from torch import Tensor

# The 16 values of a 4-bit float with 2 exponent bits and 1 mantissa bit (OCP Microscaling
# Formats, version 1.0, section 5.3.3).
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_E2M1 = torch.tensor([*E2M1, *(-value for value in E2M1)])


def block_fp8(weight: Tensor, scale: Tensor, block: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """8-bit floats with one scale per block: value = code * scale.

    The last block of an axis may be cut short, as in DeepSeek-V3's ``kv_a_proj_with_mqa`` with
    576 rows in blocks of 128.

    Args:
        weight: float8 [..., R, C].
        scale: [..., ceil(R / block[0]), ceil(C / block[1])], floats, or bytes that are exponents.
        block: rows and columns of a block.

    Returns:
        [..., R, C].
    """
    rows, columns = weight.shape[-2:]
    factors = scales(scale)
    result = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    for first in range(0, rows, block[0]):
        stripe = weight[..., first : first + block[0], :].float()
        wide = factors[..., first // block[0], :].repeat_interleave(block[1], dim=-1)
        result[..., first : first + block[0], :] = stripe.mul_(wide[..., None, :columns])
    return result


def block_of(weight: Tensor, scale: Tensor, stated: tuple[int, int] | None) -> tuple[int, int]:
    """Rows and columns of a block: those `stated` if they fit, else a power of two that does.

    Raises:
        ValueError: none does.
    """
    found: list[int] = []
    for axis, count in zip(weight.shape[-2:], scale.shape[-2:], strict=True):
        tried = ([stated[len(found)]] if stated else []) + [1, 16, 32, 64, 128, 256, 512, axis]
        fits = [size for size in tried if -(-axis // size) == count]
        if not fits:
            raise ValueError(f"{list(scale.shape)} scales do not fit {list(weight.shape)} numbers")
        found.append(fits[0])
    return found[0], found[1]


def scales(scale: Tensor) -> Tensor:
    """Scales as float32; bytes and E8M0 are exponents of 2, biased by 127."""
    if scale.dtype == torch.uint8:
        scale = scale.view(torch.float8_e8m0fnu)
    return scale.float()


def mxfp4(packed: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """4-bit floats, two in a byte, low half first, with one power of two for each 32.

    Args:
        packed: 8-bit [..., R, C / 2].
        scale: exponents [..., R, C / 32].

    Returns:
        [..., R, C].
    """
    return _scaled_groups(_e2m1(packed), scales(scale), dtype)


def nvfp4(packed: Tensor, scale: Tensor, second: Tensor, dtype: torch.dtype) -> Tensor:
    """4-bit floats, two in a byte, low half first, with a float8 scale for each 16 and another
    for all: value = code * (scale * second).

    Args:
        packed: 8-bit [..., R, C / 2].
        scale: float8 [..., R, C / 16].
        second: float32, one number or one for each leading index.

    Returns:
        [..., R, C].
    """
    factors = scale.float() * _leading(second.float(), scale.ndim)
    return _scaled_groups(_e2m1(packed), factors, dtype)


def int4(packed: Tensor, scale: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """4-bit integers from -8 to 7, eight in a 32-bit word, lowest bits first, stored plus 8.

    Args:
        packed: int32 [R, ceil(C / 8)].
        scale: [R, groups]; each group has C / groups columns.
        shape: R and C.

    Returns:
        [R, C].

    Raises:
        ValueError: so many words hold integers of another size.
    """
    if packed.shape[-1] != -(-shape[1] // 8):
        raise ValueError(f"rows of {packed.shape[-1]} words are not {shape[1]} integers of 4 bits")
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=packed.device)
    codes = (packed[..., None] >> shifts).bitwise_and_(15).reshape(shape[0], -1)[:, : shape[1]]
    return _scaled_groups((codes - 8).float(), scale.float(), dtype)


def row_fp8(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """8-bit floats with a scale for each row, or one for all: value = code * scale.

    Args:
        weight: [..., R, C].
        scale: [..., R, 1] or [..., R]; one number for each leading index, or for all.

    Returns:
        [..., R, C].

    Raises:
        RuntimeError: so many scales do not fit.
    """
    return weight.float().mul_(_leading(scale.float(), weight.ndim)).to(dtype)


def _leading(scale: Tensor, ndim: int) -> Tensor:
    """Scales whose axes are the first ones of `ndim`; without this the last ones would be meant."""
    return scale.reshape(scale.shape + (1,) * (ndim - scale.ndim))


def _e2m1(packed: Tensor) -> Tensor:
    codes = packed.view(torch.uint8)
    pairs = torch.stack((codes & 15, codes >> 4), dim=-1)
    return _E2M1.to(packed.device)[pairs.flatten(-2).int()]


def _scaled_groups(values: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers of equal groups along the last axis times their scales."""
    groups = values.view(*scale.shape, -1)
    return (groups * scale[..., None]).flatten(-2).to(dtype)
