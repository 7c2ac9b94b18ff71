"""What weights take in the type that a model computes in."""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.headers import BITS, Tensor

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def weight_bytes(checkpoint: Checkpoint, dtype: str = "auto") -> int:
    """Bytes of all weights in the type that the model computes in.

    Quantised weights count as what they become: 16 bits each, if `dtype` is ``"auto"``.
    """
    return computed_bytes(checkpoint.tensors.values(), dtype)


def computed_bytes(tensors: Iterable[Tensor], dtype: str = "auto") -> int:
    """Bytes of tensors in the type that the model computes in, as `weight_bytes`."""
    total = 0
    for tensor in tensors:
        bits = BITS[tensor.dtype]
        if bits >= 16 and tensor.dtype[0] in "FB":
            each = _BYTES.get(dtype, bits // 8)
            total += prod(tensor.shape) * each
        elif tensor.dtype.startswith("F8_E8M0"):
            continue  # scales
        else:
            # FP8 is one number in 8 bits; in all other types four bits are one.
            numbers = tensor.nbytes * (1 if tensor.dtype.startswith("F8") else 2)
            total += numbers * _BYTES.get(dtype, 2)
    return total


def computed_type(config: Mapping[str, Any], dtype: str) -> str:
    """The type that a model computes in, by name; ``"auto"`` is what its configuration says."""
    for part in (config, config.get("text_config")) if dtype == "auto" else ():
        stated = isinstance(part, Mapping) and (part.get("dtype") or part.get("torch_dtype"))
        if stated in _BYTES:
            return str(stated)
    return dtype if dtype in _BYTES else "bfloat16"


def bytes_each(dtype: str) -> int:
    """Bytes of one number of a type that `computed_type` gave."""
    return _BYTES[dtype]
