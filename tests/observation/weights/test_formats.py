"""Dequantised numbers against the formats' definitions, one number at a time in float64."""

import math
import random

import numpy as np
import pytest
import torch

from easyep.checkpoint import decoding
from easyep.observation.weights import formats
from easyep.observation.weights.reading import DTYPES


def minifloat(code: int, exponent: int, mantissa: int) -> float:
    """The value of a small float's code: sign, exponent with the usual bias, mantissa."""
    sign = -1.0 if code >> (exponent + mantissa) & 1 else 1.0
    power = code >> mantissa & ((1 << exponent) - 1)
    part = (code & ((1 << mantissa) - 1)) / (1 << mantissa)
    bias = (1 << (exponent - 1)) - 1
    return sign * (part * 2.0 ** (1 - bias) if power == 0 else (1 + part) * 2.0 ** (power - bias))


def random_bytes(*shape: int, seed: int = 0, skip: tuple[int, ...] = (0x7F, 0xFF)) -> torch.Tensor:
    """Bytes but for those that are no number in E4M3."""
    draw = random.Random(seed)
    valid = [code for code in range(256) if code not in skip]
    return torch.tensor(draw.choices(valid, k=math.prod(shape)), dtype=torch.uint8).view(shape)


@pytest.mark.parametrize(
    ("rows", "columns", "block"),
    [(256, 256, (128, 128)), (144, 40, (128, 128)), (72, 200, (64, 128)), (6, 64, (1, 32))],
)
def test_fp8_in_blocks(rows: int, columns: int, block: tuple[int, int]) -> None:
    codes = random_bytes(rows, columns)
    grid = (-(-rows // block[0]), -(-columns // block[1]))
    scale = torch.rand(grid, generator=torch.Generator().manual_seed(1)) + 0.5
    found = formats.block_fp8(codes.view(torch.float8_e4m3fn), scale, block, torch.float32)
    for r in range(rows):
        for c in range(0, columns, 7):
            factor = scale[r // block[0], c // block[1]].item()
            expected = minifloat(int(codes[r, c]), 4, 3) * factor
            assert found[r, c].item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("shape", "scales", "stated", "expected"),
    [
        ((576, 7168), (5, 56), (128, 128), (128, 128)),
        ((144, 40), (2, 1), (128, 128), (128, 128)),
        ((64, 64), (4, 4), (16, 16), (16, 16)),
        ((64, 64), (64, 2), None, (1, 32)),
        ((64, 64), (64, 2), (128, 128), (1, 32)),
    ],
)
def test_the_size_of_a_block(
    shape: tuple[int, int],
    scales: tuple[int, int],
    stated: tuple[int, int] | None,
    expected: tuple[int, int],
) -> None:
    assert formats.block_of(torch.empty(shape), torch.empty(scales), stated) == expected


def test_scales_that_fit_no_block_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[3, 7\] scales do not fit \[576, 7168\]"):
        formats.block_of(torch.empty(576, 7168), torch.empty(3, 7), (128, 128))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float8_e8m0fnu])
def test_bytes_are_exponents(dtype: torch.dtype) -> None:
    codes = torch.tensor([0, 1, 126, 127, 128, 254], dtype=torch.uint8)
    found = formats.scales(codes.view(dtype))
    assert found.tolist() == [2.0 ** (code - 127) for code in codes.tolist()]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_mxfp4(dtype: torch.dtype) -> None:
    packed = random_bytes(3, 5, 32, skip=())
    scale = random_bytes(3, 5, 2, seed=1, skip=(255,)) // 2 + 64
    found = formats.mxfp4(packed.view(dtype), scale.view(torch.float8_e8m0fnu), torch.float32)
    assert found.shape == (3, 5, 64)
    for e in range(3):
        for r in range(5):
            for c in range(64):
                byte = int(packed[e, r, c // 2])
                code = byte >> 4 if c % 2 else byte & 15
                factor = 2.0 ** (int(scale[e, r, c // 32]) - 127)
                assert found[e, r, c].item() == minifloat(code, 2, 1) * factor


@pytest.mark.parametrize("second", [torch.tensor(0.25), torch.tensor([0.25, 3.0])])
def test_nvfp4(second: torch.Tensor) -> None:
    leading = (2,) if second.ndim else ()
    packed = random_bytes(*leading, 4, 24, skip=())
    scale = random_bytes(*leading, 4, 3, seed=2) & 0x7F
    scale[scale == 0x7F] = 1
    found = formats.nvfp4(packed, scale.view(torch.float8_e4m3fn), second, torch.float32)
    flat = found.reshape(-1, 4, 48)
    for e in range(len(flat)):
        for r in range(4):
            for c in range(48):
                byte = int(packed.reshape(-1, 4, 24)[e, r, c // 2])
                code = byte >> 4 if c % 2 else byte & 15
                factor = minifloat(int(scale.reshape(-1, 4, 3)[e, r, c // 16]), 4, 3)
                factor *= second.reshape(-1)[e if second.ndim else 0].item()
                expected = minifloat(code, 2, 1) * factor
                assert flat[e, r, c].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("columns", [64, 60])
def test_int4(columns: int) -> None:
    draw = random.Random(3)
    codes = [[draw.randrange(16) for _ in range(64)] for _ in range(5)]
    words = [[sum(row[w * 8 + i] << (4 * i) for i in range(8)) for w in range(8)] for row in codes]
    signed = [[w - (1 << 32) if w >> 31 else w for w in row] for row in words]
    groups = columns // 4
    scale = torch.rand(5, 4, generator=torch.Generator().manual_seed(4))
    found = formats.int4(
        torch.tensor(signed, dtype=torch.int32), scale, (5, columns), torch.float32
    )
    assert found.shape == (5, columns)
    for r in range(5):
        for c in range(columns):
            expected = (codes[r][c] - 8) * scale[r, c // groups].item()
            assert found[r, c].item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("scale", [torch.rand(6, 1), torch.tensor(0.125)])
def test_fp8_with_a_scale_for_each_row_or_for_all(scale: torch.Tensor) -> None:
    codes = random_bytes(6, 10)
    found = formats.row_fp8(codes.view(torch.float8_e4m3fn), scale, torch.float32)
    for r in range(6):
        factor = scale[r, 0].item() if scale.ndim else scale.item()
        for c in range(10):
            expected = minifloat(int(codes[r, c]), 4, 3) * factor
            assert found[r, c].item() == pytest.approx(expected, rel=1e-7)


def test_numbers_are_rounded_once_to_the_models_type() -> None:
    codes = random_bytes(130, 40).view(torch.float8_e4m3fn)
    scale = torch.rand(2, 1, generator=torch.Generator().manual_seed(5))
    exact = formats.block_fp8(codes, scale, (128, 128), torch.float32)
    rounded = formats.block_fp8(codes, scale, (128, 128), torch.bfloat16)
    assert torch.equal(rounded, exact.bfloat16())


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0"])
def test_every_code_means_what_it_means_without_torch(dtype: str) -> None:
    """Criteria from weights decode the same types with numpy."""
    codes = torch.arange(255, dtype=torch.uint8)
    mine = codes.view(DTYPES[dtype]).float().numpy()
    theirs = {"F8_E4M3": decoding.E4M3, "F8_E5M2": decoding.E5M2, "F8_E8M0": decoding.E8M0}[dtype]
    np.testing.assert_array_equal(mine, theirs[:255])


def test_four_bit_codes_mean_the_same_without_torch() -> None:
    packed = torch.arange(256, dtype=torch.uint8)[:, None].repeat(1, 16)
    found = formats.mxfp4(packed, torch.full((256, 1), 127, dtype=torch.uint8), torch.float32)
    codes = packed.numpy()
    expected = np.stack([decoding.E2M1[codes & 15], decoding.E2M1[codes >> 4]], axis=-1)
    np.testing.assert_array_equal(found.numpy(), expected.reshape(256, 32))
