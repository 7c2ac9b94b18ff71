"""The weight files to be written: which tensor goes where, and from which bytes it comes."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from easyep.checkpoint.copying import Range
from easyep.checkpoint.files import SINGLE, Checkpoint
from easyep.checkpoint.headers import BITS, build_header, bytes_of

# Files are written side by side, and each is hashed by one thread from its beginning to its end: so
# many files at least, unless they were smaller than that.
SIDE_BY_SIDE = 4
SMALL_BYTES = 256_000_000


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One tensor to be written.

    Attributes:
        name: its new name.
        dtype: its type in safetensors' words.
        shape: its new dimensions.
        ranges: the source ranges that its bytes come from, in order.
        change: None where these bytes are the tensor. Where its values change too, as in a table
            of expert ids, a function from the bytes of all ranges to the tensor's `nbytes` bytes;
            both are held in memory, so this is for small tensors.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    ranges: tuple[Range, ...]
    change: Callable[[bytes], bytes] | None = None

    @property
    def nbytes(self) -> int:
        return bytes_of(self.dtype, self.shape)


@dataclass(frozen=True)
class OutputShard:
    """One weight file to be written."""

    name: str
    metadata: Mapping[str, str]
    tensors: tuple[OutputTensor, ...]

    @cached_property
    def header(self) -> bytes:
        """The bytes before the data."""
        return build_header(((t.name, t.dtype, t.shape) for t in self.tensors), self.metadata)

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors, without the header."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def file_bytes(self) -> int:
        """Bytes of the file."""
        return len(self.header) + self.nbytes


@dataclass(frozen=True, slots=True)
class Unit:
    """Tensors that end in the same file: all of one expert, or all of one matrix.

    Attributes:
        layer: the decoder layer that they lie in; None = outside of all.
        at: where the first of them lies in the source.
        tensors: all of them, in order.
        expert: the expert's new number, as in its name; -1 where they are not one expert's.
    """

    layer: int | None
    at: tuple[str, int]
    tensors: tuple[OutputTensor, ...]
    expert: int = -1


def shards(units: Iterable[Unit], checkpoint: Checkpoint, limit: int) -> Iterator[OutputShard]:
    """Units in layer order, a layer's experts last, in files of at most `limit` bytes."""
    units = list(units)
    limit = _even([sum(tensor.nbytes for tensor in unit.tensors) for unit in units], limit)
    first = min(unit.at for unit in units if unit.layer is not None)

    def order(unit: Unit) -> tuple[float, int, tuple[str, int]]:
        place: float | None = unit.layer
        if place is None:
            # Embeddings lie before the layers in most sources, the final norm and the head behind.
            place = -1 if unit.at < first else float("inf")
        return place, unit.expert, unit.at

    groups: list[list[Unit]] = [[]]
    size = 0
    for unit in sorted(units, key=order):
        nbytes = sum(tensor.nbytes for tensor in unit.tensors)
        if groups[-1] and size + nbytes > limit:
            groups.append([])
            size = 0
        groups[-1].append(unit)
        size += nbytes
    metadata = _metadata(checkpoint)
    single = len(groups) == 1 and set(checkpoint.shards) == {SINGLE}
    for number, group in enumerate(groups, start=1):
        name = SINGLE if single else f"model-{number:05}-of-{len(groups):05}.safetensors"
        yield OutputShard(name, metadata, _aligned(t for unit in group for t in unit.tensors))


def _even(sizes: Sequence[int], limit: int) -> int:
    """`limit`, or less, so that files become alike in size and can be written side by side."""
    total = sum(sizes)
    files = max(math.ceil(total / limit), min(SIDE_BY_SIDE, total // SMALL_BYTES), 1)
    return min(limit, math.ceil(total / files) + max(sizes))


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """What all source files agree on; ``{"format": "pt"}`` in practice."""
    first, *others = [dict(shard.metadata) for shard in checkpoint.shards.values()]
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def _aligned(tensors: Iterable[OutputTensor]) -> tuple[OutputTensor, ...]:
    """`tensors`, in another order only if one would begin off the boundary of its type.

    Readers view the mapped file as numbers, which needs the alignment; holes are not allowed, so
    the wider types come first then, as in files of the reference writer.
    """
    tensors = tuple(tensors)
    at = 0
    for tensor in tensors:
        if at * 8 % BITS[tensor.dtype]:
            return tuple(sorted(tensors, key=lambda each: -BITS[each.dtype]))
        at += tensor.nbytes
    return tensors
