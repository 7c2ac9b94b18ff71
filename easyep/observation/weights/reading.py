"""A checkpoint's tensors as the model computes with them, whatever form they are stored in."""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from easyep.checkpoint import headers
from easyep.checkpoint.files import Checkpoint, checked_file
from easyep.distributed import ALONE, Group
from easyep.errors import CheckpointError, UnsupportedModelError
from easyep.observation.exchange import put_together
from easyep.observation.weights import formats

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

# Stored tensors that are part of a weight; longest endings first. Scales of activations are not:
# the model is computed with the weights as they are, in a floating-point type.
PARTS = (
    *("_scale_inv", "_global_scale", "_scale_2", "_packed", "_scale", "_shape", "_blocks"),
    "_zero_point",
)
IGNORED = ("input_scale", "input_global_scale", "_activation_scale")


@dataclass(frozen=True)
class Stored:
    """One weight of the model and the tensors that it is stored in.

    Attributes:
        name: what the weight is called where it is not quantised.
        parts: what each tensor is: ``""`` (the numbers themselves), ``"_scale_inv"``, ...
    """

    name: str
    parts: Mapping[str, headers.Tensor]


def stored_weights(
    names: Iterable[str], tensors: Mapping[str, headers.Tensor]
) -> dict[str, Stored]:
    """The weights that the tensors `names` make up, by name."""
    parts: dict[str, dict[str, headers.Tensor]] = {}
    for name in names:
        if name.endswith(IGNORED):
            continue
        stem, part = _split(name, tensors)
        parts.setdefault(stem, {})[part] = tensors[name]
    return {name: Stored(name, found) for name, found in parts.items()}


def _split(name: str, tensors: Mapping[str, headers.Tensor]) -> tuple[str, str]:
    for part in PARTS:
        if name.endswith(part):
            stem = name.removesuffix(part)
            quantised = (stem, stem + "_packed", stem + "_blocks")
            if part in ("_packed", "_blocks") or any(each in tensors for each in quantised):
                return stem, part
    if name.endswith("_scales") and name.removesuffix("_scales") + "_blocks" in tensors:
        return name.removesuffix("_scales"), "_scales"
    if name.endswith(".scale") and name.removesuffix("scale") + "weight" in tensors:
        return name.removesuffix("scale") + "weight", ".scale"
    return name, ""


class WeightReader:
    """Reads weights of a checkpoint from their byte ranges; safe to use from several threads.

    Args:
        checkpoint: the checkpoint.
        dtype: what quantised weights become; others stay as they are stored.
        device: where they go.
        group: the processes that may read a weight together.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: torch.dtype,
        device: torch.device,
        group: Group = ALONE,
    ) -> None:
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.device = device
        self.group = group
        self.bytes_read = 0  # by this process
        self._block = _stated_block(checkpoint.config)
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def read_together(self, stored: Stored) -> Tensor:
        """A weight that all processes of the group ask for now, as `read`.

        Each reads an equal part of the bytes from its disk and gets the others' from them.

        Raises:
            PeerError: another process has failed, is gone or hangs.
        """
        raw = {
            part: self._typed(tensor, self._bytes_together(tensor), tensor.shape)
            for part, tensor in stored.parts.items()
        }
        return self._dequantised(stored, raw)

    def read(self, stored: Stored, rows: Sequence[int] | None = None, of: int = 0) -> Tensor:
        """A weight, dequantised.

        Args:
            stored: which.
            rows: only these indices of the first axis, whose length is `of`: stacked experts.
            of: experts; parts whose first axis has another length belong to all.

        Raises:
            CheckpointError: its bytes cannot be read.
            UnsupportedModelError: it is stored in a form that easyep cannot read.
        """
        raw = {part: self._raw(tensor, rows, of) for part, tensor in stored.parts.items()}
        return self._dequantised(stored, raw)

    def _dequantised(self, stored: Stored, raw: Mapping[str, Tensor]) -> Tensor:
        try:
            return self._numbers(raw)
        except (ValueError, RuntimeError) as error:
            kinds = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in stored.parts.values())
            raise UnsupportedModelError(
                f"the weight {stored.name!r} cannot be dequantised ({kinds}): {error}"
            ) from None

    def _numbers(self, raw: Mapping[str, Tensor]) -> Tensor:
        """Raises ValueError or RuntimeError where the parts are of no form that is known."""
        if "_zero_point" in raw and raw["_zero_point"].float().any():
            raise ValueError("its zero points are not all 0")
        kinds = raw.keys() - {"_zero_point"}
        plain = raw.get("")
        if plain is not None and kinds == {""}:
            if plain.dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8):
                raise ValueError("it has no scales")
            return plain
        if plain is not None and plain.dtype == torch.int8 and kinds == {"", ".scale"}:
            return formats.mxfp4(plain, raw[".scale"], self.dtype)
        if plain is not None and kinds <= {"", "_scale_inv", ".scale"}:
            scale = raw["_scale_inv"] if "_scale_inv" in raw else raw[".scale"]
            block = formats.block_of(plain, scale, self._block)
            return formats.block_fp8(plain, scale, block, self.dtype)
        if plain is not None and plain.dtype == torch.uint8 and kinds == {"", "_scale", "_scale_2"}:
            return formats.nvfp4(plain, raw["_scale"], raw["_scale_2"], self.dtype)
        if plain is not None and kinds == {"", "_scale"}:
            return formats.row_fp8(plain, raw["_scale"], self.dtype)
        if kinds == {"_packed", "_scale", "_shape"}:
            rows, columns = (int(size) for size in raw["_shape"])
            return formats.int4(raw["_packed"], raw["_scale"], (rows, columns), self.dtype)
        if kinds == {"_packed", "_scale", "_global_scale"}:
            second = 1 / raw["_global_scale"].float()
            return formats.nvfp4(raw["_packed"], raw["_scale"], second.squeeze(), self.dtype)
        if kinds == {"_blocks", "_scales"}:
            # gpt-oss: [E, R, C / 32, 16] bytes for a matrix that the model holds as [E, C, R].
            numbers = formats.mxfp4(raw["_blocks"].flatten(-2), raw["_scales"], self.dtype)
            return numbers.transpose(-1, -2).contiguous()
        raise ValueError("easyep does not know this form")

    def _raw(self, tensor: headers.Tensor, rows: Sequence[int] | None, of: int) -> Tensor:
        if rows is None or not tensor.shape or tensor.shape[0] != of:
            whole = self._bytes(tensor, [(tensor.begin, tensor.end)])
            return self._typed(tensor, whole, tensor.shape)
        stride = tensor.nbytes // of
        ranges = [(tensor.begin + row * stride, tensor.begin + (row + 1) * stride) for row in rows]
        return self._typed(tensor, self._bytes(tensor, ranges), (len(rows), *tensor.shape[1:]))

    def _typed(self, tensor: headers.Tensor, raw: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A tensor's bytes as its numbers, on the device."""
        if tensor.dtype not in DTYPES:
            raise UnsupportedModelError(f"tensor {tensor.name!r} has the type {tensor.dtype}")
        beside = self.device.type == "cuda"
        return raw.view(DTYPES[tensor.dtype]).view(shape).to(self.device, non_blocking=beside)

    def _bytes_together(self, tensor: headers.Tensor) -> Tensor:
        here = self.group.here
        each = -(-tensor.nbytes // here.size)
        raw = self._room(each * here.size)
        begin, end = (
            min(tensor.nbytes, each * number) for number in (here.number, here.number + 1)
        )
        self._fill(raw[begin:end], tensor, [(tensor.begin + begin, tensor.begin + end)])
        put_together(self.group, raw, slice(each * here.number, each * (here.number + 1)))
        return raw[: tensor.nbytes]

    def _bytes(self, tensor: headers.Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
        raw = self._room(sum(end - begin for begin, end in ranges))
        self._fill(raw, tensor, ranges)
        return raw

    def _room(self, size: int) -> Tensor:
        # A GPU fetches by itself from memory that stays where it is.
        return torch.empty(size, dtype=torch.uint8, pin_memory=self.device.type == "cuda")

    def _fill(self, raw: Tensor, tensor: headers.Tensor, ranges: Sequence[tuple[int, int]]) -> None:
        view, at = memoryview(raw.numpy().data), 0
        for begin, end in ranges:
            while begin < end:
                count = os.preadv(self._file(tensor.shard), [view[at : at + end - begin]], begin)
                if not count:
                    raise CheckpointError(f"{tensor.shard} became shorter while it was read")
                begin, at = begin + count, at + count
        self.bytes_read += at

    def _file(self, shard: str) -> int:
        with self._lock:
            if shard not in self._files:
                path = checked_file(self.checkpoint.path, shard)
                self._files[shard] = os.open(path, os.O_RDONLY)
            return self._files[shard]


def _stated_block(config: Mapping[str, Any]) -> tuple[int, int] | None:
    settings = config.get("quantization_config")
    block = settings.get("weight_block_size") if isinstance(settings, Mapping) else None
    if isinstance(block, list) and len(block) == 2:
        rows, columns = block
        if type(rows) is type(columns) is int and min(rows, columns) > 0:
            return rows, columns
    return None
