"""Ranges of bytes, and the shards of a checkpoint that they are read from."""

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from easyep.checkpoint.files import Checkpoint, checked_file
from easyep.checkpoint.headers import Shard, Tensor
from easyep.errors import CheckpointError

# What fits the cache of a core; buffers of 2 MiB and more were 2 to 8 times slower.
BUFFER_BYTES = 512 * 1024

# Sources kept open at a time; checkpoints have up to some hundreds of shards.
MAX_OPEN = 32


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes `begin` to `end` of the source file `shard`."""

    shard: str
    begin: int
    end: int

    @classmethod
    def of(cls, tensor: Tensor) -> "Range":
        """All bytes of a tensor."""
        return cls(tensor.shard, tensor.begin, tensor.end)

    @property
    def nbytes(self) -> int:
        return self.end - self.begin


def merged(ranges: Iterable[Range]) -> Iterator[Range]:
    """`ranges` with those that follow on from each other in one file made one."""
    pending: Range | None = None
    for each in ranges:
        if pending is not None and (pending.shard, pending.end) == (each.shard, each.begin):
            pending = Range(pending.shard, pending.begin, each.end)
        elif each.nbytes:
            if pending is not None:
                yield pending
            pending = each
    if pending is not None:
        yield pending


class Sources:
    """The shards of a checkpoint, opened when they are needed, a few at a time."""

    def __init__(self, root: Path, shards: Iterable[Shard]) -> None:
        self._root = root
        self._sizes = {shard.name: shard.size for shard in shards}
        self._open: OrderedDict[str, int] = OrderedDict()

    def __enter__(self) -> "Sources":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def expect(self, each: Range) -> None:
        """Have the disk read a range that is asked for soon; does not wait for it.

        Raises:
            CheckpointError: the file is gone, has changed its size, or cannot be opened.
        """
        if hasattr(os, "posix_fadvise"):
            descriptor = self._descriptor(each.shard)
            os.posix_fadvise(descriptor, each.begin, each.nbytes, os.POSIX_FADV_WILLNEED)

    def read_into(self, buffer: memoryview, shard: str, offset: int) -> int:
        """Fill `buffer` from `offset` of a shard as far as one call reads; the bytes read.

        Raises:
            CheckpointError: the file is gone, has changed its size, or cannot be read.
        """
        descriptor = self._descriptor(shard)
        try:
            count = os.preadv(descriptor, [buffer], offset)
        except OSError as error:
            raise self._unreadable(shard, error) from None
        if count == 0:
            raise CheckpointError(f"{self._root / shard} became shorter while it was read")
        return count

    def read(self, ranges: Iterable[Range]) -> bytes:
        """The bytes of all `ranges`, in memory; errors as in `read_into`."""
        parts = []
        for each in ranges:
            part = memoryview(bytearray(each.nbytes))
            filled = 0
            while filled < each.nbytes:
                filled += self.read_into(part[filled:], each.shard, each.begin + filled)
            parts.append(part)
        return b"".join(parts)

    def _descriptor(self, shard: str) -> int:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        try:
            descriptor = os.open(checked_file(self._root, shard), os.O_RDONLY)
        except OSError as error:
            raise self._unreadable(shard, error) from None
        if hasattr(os, "posix_fadvise"):
            # The kernel would read on behind each range, into experts that are not asked for.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        if len(self._open) >= MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[shard] = descriptor
        size = os.fstat(descriptor).st_size
        if size != self._sizes[shard]:
            raise CheckpointError(
                f"{self._root / shard} changed from {self._sizes[shard]} to {size} bytes; "
                "start again when nothing writes to the checkpoint"
            )
        return descriptor

    def _unreadable(self, shard: str, error: OSError) -> CheckpointError:
        return CheckpointError(f"{self._root / shard} cannot be read: {error.strerror or error}")


def read(checkpoint: Checkpoint, ranges: Iterable[Range]) -> bytes:
    """The bytes of `ranges` of a checkpoint, in memory; errors as in `Sources.read_into`."""
    with Sources(checkpoint.path, checkpoint.shards.values()) as sources:
        return sources.read(ranges)
