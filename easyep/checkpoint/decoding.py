"""Stored weights as float32 numbers, with numpy alone.

Read: F64, F32, F16, BF16; FP8 (E4M3, E5M2) without scales or with one per tensor, row or block;
MXFP4 (pairs of E2M1 values in a byte, one E8M0 scale for 32). Not read: packed integers (INT4,
AWQ, GPTQ, bitsandbytes), NVFP4 and other formats with two levels of scales.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from easyep.checkpoint.copying import Range, Sources
from easyep.checkpoint.headers import BITS, Tensor
from easyep.errors import UnsupportedModelError

Float32 = npt.NDArray[np.float32]

# Numbers decoded at a time: 4 MB as float32.
PIECE = 1 << 20

# The block that a row or column count which is no multiple of its scales is cut into.
DEFAULT_BLOCK = (128, 128)
MX_BLOCK = 32

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def _minifloat(exponent_bits: int, mantissa_bits: int, *, infinities: bool) -> Float32:
    """What every code of a small floating-point type means (OCP 8-bit and MX specifications)."""
    codes = np.arange(1 << (1 + exponent_bits + mantissa_bits))
    sign = np.where(codes >> (exponent_bits + mantissa_bits), -1.0, 1.0)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    bias = (1 << (exponent_bits - 1)) - 1
    values = sign * np.where(
        exponent == 0, mantissa * 2.0 ** (1 - bias), (1 + mantissa) * 2.0 ** (exponent - bias)
    )
    top = exponent == (1 << exponent_bits) - 1
    if infinities:
        values[top] = np.where(mantissa[top] == 0, sign[top] * np.inf, np.nan)
    elif exponent_bits == 4:  # E4M3: only the largest mantissa of the largest exponent is no number
        values[top & (mantissa == mantissa.max())] = np.nan
    return values.astype(np.float32)


E4M3 = _minifloat(4, 3, infinities=False)
E5M2 = _minifloat(5, 2, infinities=True)
E2M1 = _minifloat(2, 1, infinities=False)
# E8M0: a power of two; 255 is no number.
E8M0 = np.where(np.arange(256) < 255, 2.0 ** (np.arange(256) - 127.0), np.nan).astype(np.float32)
_PAIRS = np.stack([E2M1[np.arange(256) & 15], E2M1[np.arange(256) >> 4]], axis=1)
_CODES = {"F8_E4M3": E4M3, "F8_E5M2": E5M2, "F8_E8M0": E8M0}


@dataclass(frozen=True)
class Matrix:
    """One stored matrix and what its numbers are multiplied by.

    Attributes:
        weight: the numbers; where two share a byte, its last axis counts bytes.
        scale: a tensor of scales, for FP8 and MXFP4.
        block: rows and columns that one scale is for, where the shapes do not tell.
    """

    weight: Tensor
    scale: Tensor | None = None
    block: tuple[int, int] = DEFAULT_BLOCK

    def pieces(self, sources: Sources) -> Iterator[Float32]:
        """The matrix in float32, some rows at a time, [rows, columns].

        Raises:
            UnsupportedModelError: it is stored in a way that is not decoded.
            CheckpointError: the file cannot be read.
        """
        scale = None if self.scale is None else decoded(sources, self.scale)
        is_packed = BITS[self.weight.dtype] == 8 and self.weight.dtype not in _CODES
        if is_packed:
            yield from self._packed(sources, scale)
            return
        rows, columns = prod(self.weight.shape[:-1]), self.weight.shape[-1]
        if scale is None:
            for data, _ in _rows(sources, self.weight, rows, 1):
                yield _values(data, self.weight).reshape(-1, columns)
            return
        grid = scale.reshape(-1, scale.shape[-1] if scale.ndim > 1 else 1)
        high = self._block(rows, grid.shape[0], self.block[0])
        wide = self._block(columns, grid.shape[1], self.block[1])
        for data, first in _rows(sources, self.weight, rows, high):
            piece = _values(data, self.weight).reshape(-1, columns)
            covering = grid[first // high : -(-(first + len(piece)) // high)]
            per_row = np.repeat(covering, high, axis=0)[: len(piece)]
            yield piece * np.repeat(per_row, wide, axis=1)[:, :columns]

    def _packed(self, sources: Sources, scale: Float32 | None) -> Iterator[Float32]:
        """MXFP4: scales [rows, groups], 16 bytes of the weight for each."""
        width = MX_BLOCK // 2
        size = prod(self.weight.shape)
        if scale is None or scale.size * width != size or self.scale is None:
            raise self._unread()
        if self.scale.dtype not in ("U8", "F8_E8M0"):
            raise self._unread()
        powers = scale.reshape(-1, 1)
        for data, first in _rows(sources, self.weight, size // width, 1):
            numbers = _PAIRS[np.frombuffer(data, np.uint8)].reshape(-1, MX_BLOCK)
            yield numbers * powers[first : first + len(numbers)]

    def _block(self, size: int, scales: int, stated: int) -> int:
        if scales == 1:
            return max(size, 1)
        if -(-size // stated) == scales:
            return stated
        if -(-size // MX_BLOCK) == scales:
            return MX_BLOCK
        if scales == size:
            return 1
        raise self._unread()

    def _unread(self) -> UnsupportedModelError:
        scale = f", scales {self.scale.dtype} {list(self.scale.shape)}" if self.scale else ""
        return UnsupportedModelError(
            f"easyep does not decode tensor {self.weight.name!r} ({self.weight.dtype} "
            f"{list(self.weight.shape)}{scale}); it reads F64, F32, F16, BF16, FP8 with one level "
            "of scales, and MXFP4 (criteria that look at the record need no weights)"
        )


def decoded(sources: Sources, tensor: Tensor) -> Float32:
    """A whole tensor in float32; unsigned bytes are taken for E8M0 scales."""
    data = sources.read([Range.of(tensor)])
    return _values(data, tensor).reshape(tensor.shape)


def _rows(
    sources: Sources, tensor: Tensor, rows: int, multiple: int
) -> Iterator[tuple[bytes, int]]:
    """The bytes of some rows at a time, a multiple of `multiple`, and the first row's number."""
    per_row = tensor.nbytes // max(rows, 1)
    columns = max(1, prod(tensor.shape) // max(rows, 1))
    step = max(1, PIECE // columns // multiple) * multiple
    for first in range(0, rows, step):
        begin = tensor.begin + first * per_row
        end = min(begin + step * per_row, tensor.end)
        yield sources.read([Range(tensor.shard, begin, end)]), first


def _values(data: bytes, tensor: Tensor) -> Float32:
    if tensor.dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    if tensor.dtype in _FLOATS:
        return np.frombuffer(data, _FLOATS[tensor.dtype]).astype(np.float32)
    if tensor.dtype == "U8":
        return E8M0[np.frombuffer(data, np.uint8)]
    if tensor.dtype in _CODES:
        return _CODES[tensor.dtype][np.frombuffer(data, np.uint8)]
    raise UnsupportedModelError(
        f"easyep does not decode tensor {tensor.name!r}: its type is {tensor.dtype}"
    )
