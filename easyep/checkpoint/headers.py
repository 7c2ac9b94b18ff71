"""The header of a safetensors file: read with suspicion, written as the reference library does.

A file is an 8-byte little-endian length N, N bytes of JSON (tensor name -> dtype, shape and a
range of the data; `__metadata__` -> strings), then the data. Format: the safetensors
documentation; like the reference reader this one demands that ranges neither overlap nor leave
holes, and that the data end where the file ends.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from easyep import strict_json
from easyep.errors import CheckpointError

# Longer than any name in use; keeps patterns that look at names fast whatever a file says.
MAX_NAME_LENGTH = 1000

# Far more than any tensor has; sizes multiplied out stay numbers that can be told.
MAX_DIMENSIONS = 32

# The reference reader's limit; the header of DeepSeek-V3's largest shard has 0.1 MB.
MAX_HEADER_BYTES = 100_000_000

_FIELDS = {"dtype", "shape", "data_offsets"}

BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as it lies in a file.

    Attributes:
        name: its name.
        shard: the name of the file in the checkpoint's directory.
        dtype: its type in safetensors' words (``"BF16"``, ``"F8_E4M3"``, ...).
        shape: its dimensions.
        begin: where its bytes begin, counted from the beginning of the file.
        end: where they end (exclusive).
    """

    name: str
    shard: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Shard:
    """One safetensors file: its size in bytes, its `__metadata__` and its tensors in file order."""

    name: str
    size: int
    metadata: Mapping[str, str]
    tensors: tuple[Tensor, ...]


def bytes_of(dtype: str, shape: Iterable[int]) -> int:
    """How many bytes a tensor takes; ValueError where its bits do not fill whole bytes."""
    bits = BITS[dtype] * prod(shape)
    if bits % 8:
        raise ValueError(f"{bits} bits do not fill whole bytes")
    return bits // 8


def read_shard(path: str | os.PathLike[str], name: str) -> Shard:
    """Read and check the header of one file.

    Args:
        path: the file.
        name: what to call it in messages and in `Tensor.shard`.

    Raises:
        CheckpointError: the file cannot be read or is not a valid safetensors file; the message
            names the file and the tensor.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8:
                raise CheckpointError(f"{name} has {size} bytes: not a safetensors file")
            if length > MAX_HEADER_BYTES or 8 + length > size:
                raise CheckpointError(
                    f"{name} claims a header of {length} bytes in a file of {size} (at most "
                    f"{MAX_HEADER_BYTES}); it is truncated or not a safetensors file"
                )
            header = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror or error}") from None
    return parse_header(header, size, name)


def parse_header(header: bytes, size: int, name: str) -> Shard:
    """Check the JSON of a header against a file of `size` bytes; errors as in `read_shard`."""
    try:
        value = strict_json.parse(header.decode("utf-8"))
    except ValueError as error:  # includes UnicodeDecodeError
        raise CheckpointError(f"{name} has a header that is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} has a header that is not a JSON object")
    metadata = value.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(type(each) is not str for each in metadata.values()):
        raise CheckpointError(f"{name}: __metadata__ must be an object with strings")
    start = 8 + len(header)
    tensors = [_tensor(key, entry, start, size, name) for key, entry in value.items()]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    at = start
    for tensor in tensors:
        if tensor.begin != at:
            kind = "overlaps the one before it" if tensor.begin < at else "leaves a hole before it"
            raise CheckpointError(f"{name}: the range of tensor {tensor.name!r} {kind}")
        at = tensor.end
    if at != size:
        raise CheckpointError(f"{name}: the tensors end at byte {at}, the file has {size}")
    return Shard(name, size, metadata, tuple(tensors))


def _tensor(key: str, entry: Any, start: int, size: int, name: str) -> Tensor:
    def wrong(what: str) -> CheckpointError:
        return CheckpointError(f"{name}: tensor {key[:100]!r}{what}")

    if len(key) > MAX_NAME_LENGTH:
        raise wrong(f"... has a name of more than {MAX_NAME_LENGTH} characters")
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        raise wrong(" has a name that is not valid text") from None
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise wrong(" must have dtype, shape and data_offsets, nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise wrong(f" has the unknown dtype {repr(dtype)[:100]} (known: {', '.join(BITS)})")
    if not _are_sizes(shape):
        raise wrong(" has a shape that is not a list of sizes")
    if len(shape) > MAX_DIMENSIONS:
        raise wrong(f" has {len(shape)} dimensions; at most {MAX_DIMENSIONS}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise wrong(" has data_offsets that are not two sizes")
    begin, end = start + offsets[0], start + offsets[1]
    if not begin <= end <= size:
        raise wrong(
            f" claims bytes {begin} to {end} of a file of {size}; "
            "the header is wrong or the file truncated"
        )
    try:
        needed = bytes_of(dtype, shape)
    except ValueError as error:
        raise wrong(f" ({dtype} {shape}): {error}") from None
    if needed != end - begin:
        raise wrong(f" needs {needed} bytes as {dtype} {shape} but its range has {end - begin}")
    return Tensor(key, name, dtype, tuple(shape), begin, end)


def _are_sizes(value: Any) -> bool:
    return type(value) is list and all(type(each) is int and 0 <= each < 2**63 for each in value)


def build_header(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """The length and the header of a file whose tensors lie one behind the other.

    Args:
        tensors: (name, dtype, shape) in file order.
        metadata: what goes to `__metadata__`; nothing is written if it is empty.

    Returns:
        Bytes up to the data; their number is a multiple of 8, as the reference writer's.
    """
    value: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, dtype, shape in tensors:
        end = at + bytes_of(dtype, shape)
        value[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    said = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    text = said.encode(errors="backslashreplace")  # half a character in the metadata stays escaped
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
