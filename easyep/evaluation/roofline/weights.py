"""How many bytes matrices take in the formats of checkpoints."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyep.errors import CheckpointError, UnsupportedModelError, first_line

SIZES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


@dataclass(frozen=True)
class Matrix:
    """Some matrices of one shape, [rows, columns] each.

    Attributes:
        rows, columns: of one.
        count: how many there are.
        quantised: whether the model's quantiser touches them: not embeddings, routers, norms.
    """

    rows: int
    columns: int
    count: float = 1
    quantised: bool = True

    @property
    def numbers(self) -> float:
        """Weights in all of them."""
        return self.rows * self.columns * self.count


@dataclass(frozen=True)
class Format:
    """How the numbers of matrices are stored.

    Attributes:
        name: ``"bfloat16"``, ``"fp8"``, ``"mxfp4"``, ``"int4"``, ...
        bits: of one number.
        block: rows and columns that share a scale; 0 = all of them, None = no scales.
        scale_bits: of one scale, and a zero point where there is one.
        experts_only: other matrices are stored as the model's plain type.
    """

    name: str
    bits: float
    block: tuple[int, int] | None = None
    scale_bits: float = 0
    experts_only: bool = False

    def bytes_of(self, matrix: Matrix) -> float:
        """Bytes of the matrices with their scales."""
        total = matrix.numbers * self.bits / 8
        if self.block is not None:
            rows, columns = self.block[0] or matrix.rows, self.block[1] or matrix.columns
            scales = math.ceil(matrix.rows / rows) * math.ceil(matrix.columns / columns)
            total += scales * matrix.count * self.scale_bits / 8
        return total


def plain(dtype: str) -> Format:
    """The format of a type without a quantiser.

    Raises:
        UnsupportedModelError: the type is unknown.
    """
    if dtype not in SIZES:
        raise UnsupportedModelError(
            f"no throughput can be predicted for {dtype}: known are {', '.join(SIZES)}"
        )
    return Format(dtype, 8 * SIZES[dtype])


def quantised(settings: Mapping[str, Any] | None, dtype: str) -> Format:
    """The format that `quantization_config` of a `config.json` describes; `dtype`'s where none is.

    Raises:
        UnsupportedModelError: the quantiser is unknown.
        CheckpointError: a setting has a value of the wrong kind.
    """
    if not settings:
        return plain(dtype)
    try:
        return _described(settings)
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError) as error:
        raise CheckpointError(
            f"quantization_config of config.json has a value of the wrong kind: {first_line(error)}"
        ) from None


def _described(settings: Mapping[str, Any]) -> Format:
    method = str(settings.get("quant_method", "")).lower()
    if method in ("fp8", "fbgemm_fp8"):
        rows, columns = settings.get("weight_block_size") or (1, 0)
        return Format("fp8", 8, (int(rows), int(columns)), 32)
    if method == "mxfp4":
        return Format("mxfp4", 4, (1, 32), 8, experts_only=True)
    if method in ("gptq", "awq"):
        bits = int(settings.get("bits", settings.get("w_bit", 4)))
        group = int(settings.get("group_size", settings.get("q_group_size", 128)))
        return Format(f"int{bits}", bits, (1, max(group, 0)), 16 + bits)
    if method == "compressed-tensors":
        groups = settings.get("config_groups") or {}
        found = [each.get("weights") for each in groups.values() if isinstance(each, Mapping)]
        if len(found) == 1 and found[0]:
            bits, group = int(found[0]["num_bits"]), int(found[0].get("group_size") or 0)
            kind = "fp" if found[0].get("type") == "float" else "int"
            return Format(f"{kind}{bits}", bits, (1, max(group, 0)), 16)
    raise UnsupportedModelError(
        f"no throughput can be predicted for the quantiser {method[:100] or 'without a name'}: "
        "known are fp8, mxfp4, gptq, awq and compressed-tensors with one group"
    )
