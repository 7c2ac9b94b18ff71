"""Bytes from one file to another: large reads, large writes, a hash on the way."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from easyep.atomic import writing
from easyep.checkpoint.files import checked_file
from easyep.checkpoint.headers import Shard
from easyep.errors import CheckpointError
from easyep.progress import Task

# What fits the cache of a core; buffers of 2 MiB and more were 2 to 8 times slower, and
# copy_file_range and sendfile slower too (measured on ext4 without reflinks).
BUFFER_BYTES = 512 * 1024

# Sources kept open at a time; checkpoints have up to some hundreds of shards.
MAX_OPEN = 32


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes `begin` to `end` of the source file `shard`."""

    shard: str
    begin: int
    end: int

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
        while self._open:
            os.close(self._open.popitem()[1])

    def read_into(self, buffer: memoryview, shard: str, offset: int) -> int:
        """Fill `buffer` from `offset` of a shard as far as one call reads; the bytes read.

        Raises:
            CheckpointError: the file is gone, has changed its size, or cannot be read.
        """
        try:
            count = os.preadv(self._descriptor(shard), [buffer], offset)
        except OSError as error:
            raise CheckpointError(
                f"{self._root / shard} cannot be read: {error.strerror or error}"
            ) from None
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
        descriptor = os.open(checked_file(self._root, shard), os.O_RDONLY)
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


class Writer:
    """Appends to a file and hashes what it appends, the hash on a thread of its own.

    What cannot be written is an OutputError about the target.
    """

    def __init__(self, descriptor: int, target: Path, hasher: ThreadPoolExecutor) -> None:
        self._descriptor = descriptor
        self._target = target
        self._hasher = hasher
        self._hash = hashlib.sha256()
        self._buffers = [memoryview(bytearray(BUFFER_BYTES)) for _ in range(2)]
        self._hashing: list[Future[None] | None] = [None, None]
        self._turn = 0

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._wait()
        self._hash.update(data)
        self._append(memoryview(data))

    def copy(self, ranges: Iterable[Range], sources: Sources, task: Task) -> None:
        """Append the bytes of `ranges`; small ones are gathered into one write."""
        buffer, filled = self._fresh(), 0
        for each in ranges:
            at = each.begin
            while at < each.end:
                room = min(BUFFER_BYTES - filled, each.end - at)
                count = sources.read_into(buffer[filled : filled + room], each.shard, at)
                at, filled = at + count, filled + count
                if filled == BUFFER_BYTES:
                    self._flush(buffer, filled, task)
                    buffer, filled = self._fresh(), 0
        if filled:
            self._flush(buffer, filled, task)
        self._wait()

    def hexdigest(self) -> str:
        """SHA-256 of everything appended so far."""
        self._wait()
        return self._hash.hexdigest()

    def _fresh(self) -> memoryview:
        """The buffer that was used longest ago, when its hash is done."""
        self._turn = 1 - self._turn
        hashing = self._hashing[self._turn]
        if hashing is not None:
            hashing.result()
        return self._buffers[self._turn]

    def _flush(self, buffer: memoryview, filled: int, task: Task) -> None:
        data = buffer[:filled]
        self._hashing[self._turn] = self._hasher.submit(self._hash.update, data)
        self._append(data)
        task.advance(filled)

    def _append(self, data: memoryview) -> None:
        with writing(self._target):
            while data:
                data = data[os.write(self._descriptor, data) :]

    def _wait(self) -> None:
        for hashing in self._hashing:
            if hashing is not None:
                hashing.result()


@contextmanager
def writer(path: Path, target: Path) -> Iterator[Writer]:
    """A `Writer` to the new file `path`, which is on disk when the block ends without error.

    Raises:
        OutputError: about `target`, what the file is to be a part of: it cannot be written.
    """
    with ExitStack() as stack:
        with writing(target):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        stack.callback(os.close, descriptor)
        hasher = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        yield Writer(descriptor, target, hasher)
        with writing(target):
            os.fsync(descriptor)
