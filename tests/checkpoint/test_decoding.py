"""Stored numbers against torch's own types and formulas in Python floats."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from easyep.checkpoint import decoding
from easyep.checkpoint.copying import Sources
from easyep.checkpoint.decoding import Matrix
from easyep.checkpoint.headers import read_shard
from easyep.errors import UnsupportedModelError
from tests.checkpoint.raw_files import tensor, write_file

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]


@pytest.mark.parametrize(
    ("table", "kind"),
    [(decoding.E4M3, torch.float8_e4m3fn), (decoding.E5M2, torch.float8_e5m2)],
)
def test_eight_bit_codes(table, kind):
    codes = torch.arange(256, dtype=torch.uint8).view(kind).to(torch.float32).numpy()
    np.testing.assert_array_equal(table, codes)


def test_four_bit_codes_and_powers():
    np.testing.assert_array_equal(decoding.E2M1, E2M1)
    assert decoding.E8M0[[0, 127, 130, 254]].tolist() == [2.0**-127, 1, 8, 2.0**127]
    assert np.isnan(decoding.E8M0[255])


def read(folder: Path, raw, **of) -> np.ndarray:
    """What `Matrix` makes of the tensors w and, if it is there, s."""
    write_file(folder / "x.safetensors", raw)
    shard = read_shard(folder / "x.safetensors", "x.safetensors")
    tensors = {t.name: t for t in shard.tensors}
    with Sources(folder, [shard]) as sources:
        return np.concatenate(list(Matrix(tensors["w"], tensors.get("s"), **of).pieces(sources)))


def packed(values: np.ndarray, dtype: str):
    return dtype, values.shape, values.tobytes()


@pytest.mark.parametrize("pieces", [1 << 20, 100])
def test_plain_floats(tmp_path, monkeypatch, pieces):
    monkeypatch.setattr(decoding, "PIECE", pieces)
    numbers = torch.randn(7, 30, generator=torch.manual_seed(0))
    bf16 = numbers.to(torch.bfloat16)
    raw = ("BF16", (7, 30), bf16.view(torch.uint8).numpy().tobytes())
    np.testing.assert_array_equal(read(tmp_path, {"w": raw}), bf16.float().numpy())
    for kind, name in ((np.float16, "F16"), (np.float32, "F32"), (np.float64, "F64")):
        values = numbers.numpy().astype(kind)
        found = read(tmp_path, {"w": packed(values, name)})
        np.testing.assert_array_equal(found, values.astype(np.float32))


@pytest.mark.parametrize("pieces", [1 << 20, 4000])
@pytest.mark.parametrize("rows", [576, 256, 100])
def test_block_fp8(tmp_path, monkeypatch, rows, pieces):
    """Blocks of 128 x 128; the last ones may be cut."""
    monkeypatch.setattr(decoding, "PIECE", pieces)
    columns = 300
    codes = np.random.default_rng(rows).integers(0, 120, (rows, columns)).astype(np.uint8)
    scales = np.random.default_rng(1).random((-(-rows // 128), 3)).astype(np.float32)
    found = read(tmp_path, {"w": packed(codes, "F8_E4M3"), "s": packed(scales, "F32")})
    plain = torch.from_numpy(codes).view(torch.float8_e4m3fn).to(torch.float64).numpy()
    expected = [
        [plain[r, c] * float(scales[r // 128, c // 128]) for c in range(columns)]
        for r in range(rows)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize("shape", [(), (1,), (6, 1), (1, 1), (6, 2)])
def test_other_scales_of_fp8(tmp_path, shape):
    """One for all, one per row, one for 32 columns."""
    codes = np.random.default_rng(0).integers(0, 120, (6, 64)).astype(np.uint8)
    scales = np.random.default_rng(1).random(shape).astype(np.float32)
    found = read(tmp_path, {"w": packed(codes, "F8_E5M2"), "s": packed(scales, "F32")})
    plain = torch.from_numpy(codes).view(torch.float8_e5m2).to(torch.float64).numpy()
    wide = np.repeat(scales, 32, axis=1) if shape == (6, 2) else scales
    np.testing.assert_allclose(found, plain * wide, rtol=1e-7)


@pytest.mark.parametrize("pieces", [1 << 20, 64])
@pytest.mark.parametrize("stored", ["U8", "I8"])
def test_mxfp4(tmp_path, monkeypatch, stored, pieces):
    """gpt-oss: blocks [rows, groups, 16]; DeepSeek-V4: [rows, columns / 2]."""
    monkeypatch.setattr(decoding, "PIECE", pieces)
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 256, (3, 4, 16)).astype(np.uint8)
    powers = rng.integers(120, 134, (3, 4)).astype(np.uint8)
    shaped = groups if stored == "U8" else groups.reshape(3, 64)
    scale = packed(powers, "U8" if stored == "U8" else "F8_E8M0")
    found = read(tmp_path, {"w": packed(shaped, stored), "s": scale})
    expected = [
        E2M1[nibble] * 2.0 ** (int(powers[r, g]) - 127)
        for r in range(3)
        for g in range(4)
        for byte in groups[r, g].tolist()
        for nibble in (byte & 15, byte >> 4)
    ]
    np.testing.assert_array_equal(found.ravel(), expected)


@pytest.mark.parametrize(
    "raw",
    [
        {"w": tensor("U8", 4, 16)},
        {"w": tensor("U8", 4, 16), "s": tensor("F8_E4M3", 4, 2)},
        {"w": tensor("I32", 4, 16)},
        {"w": tensor("F8_E4M3", 300, 300), "s": tensor("F32", 7, 7)},
    ],
)
def test_what_is_not_decoded(tmp_path, raw):
    with pytest.raises(UnsupportedModelError, match="tensor 'w'") as error:
        read(tmp_path, raw)
    assert "decode" in str(error.value)
    assert json.dumps(str(error.value))
