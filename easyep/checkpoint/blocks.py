"""The bytes of a file to be written, in blocks that are copied one at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from easyep.checkpoint.copying import Range, Sources, merged
from easyep.checkpoint.output_files import OutputTensor
from easyep.errors import CheckpointError

# Read, written and hashed before the next one, so that it is still in a cache of the processor.
BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Block:
    """At most `BLOCK_BYTES` of a file, from the `parts` in order."""

    parts: tuple[Range | bytes, ...]


def blocks(parts: Iterable[Range | bytes]) -> Iterator[Block]:
    """A file's bytes in blocks of `BLOCK_BYTES`; the last one may be smaller."""
    found: list[Range | bytes] = []
    room = BLOCK_BYTES
    for part in parts:
        left = part
        while size := _size(left):
            taken, left = _cut(left, min(size, room))
            found.append(taken)
            room -= _size(taken)
            if not room:
                yield Block(tuple(found))
                found, room = [], BLOCK_BYTES
    if found:
        yield Block(tuple(found))


def contents(tensors: Iterable[OutputTensor], sources: Sources) -> Iterator[Range | bytes]:
    """What tensors consist of: ranges of the source, and values that were changed.

    Raises:
        CheckpointError: changed values do not take the room of their tensor.
    """
    for change, same in groupby(tensors, key=lambda tensor: tensor.change):
        if change is None:
            yield from merged(each for tensor in same for each in tensor.ranges)
            continue
        for tensor in same:
            data = change(sources.read(tensor.ranges))
            if len(data) != tensor.nbytes:
                raise CheckpointError(
                    f"tensor {tensor.name!r} needs {tensor.nbytes} bytes as {tensor.dtype} "
                    f"{list(tensor.shape)}, but its new values take {len(data)}"
                )
            yield data


def _size(part: Range | bytes) -> int:
    return part.nbytes if isinstance(part, Range) else len(part)


def _cut(part: Range | bytes, at: int) -> tuple[Range | bytes, Range | bytes]:
    """The first `at` bytes and the others."""
    if isinstance(part, bytes):
        return part[:at], part[at:]
    middle = part.begin + at
    return Range(part.shard, part.begin, middle), Range(part.shard, middle, part.end)
