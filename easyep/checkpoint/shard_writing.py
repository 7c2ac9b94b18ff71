"""The weight files of a plan, written: byte ranges copied, and hashed on the way.

Hashing takes as long as copying, and the hash of a file is made from its beginning to its end. So
two threads share a file: each copies the next block, and hashes what is there to be hashed if the
other does not. Where there are more cores, several files are written at a time.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from threading import Condition, Event, Lock

from easyep.atomic import writing
from easyep.checkpoint.copying import Range, Sources, merged
from easyep.checkpoint.disk import reserve, start_writing
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.output_files import OutputShard
from easyep.checkpoint.proofreading import cores
from easyep.errors import CheckpointError
from easyep.progress import Task

# Read, then written: what stays in the cache of a core meanwhile.
PIECE_BYTES = 128 * 1024

# Taken by a thread at a time. So many blocks of a file may wait for the hash that its threads
# seldom wait for each other.
BLOCK_BYTES = 1024 * 1024
BLOCKS = 8
THREADS_PER_FILE = 2

# After so many bytes the disk begins to write them, while the next ones are copied.
WRITE_BACK_BYTES = 32 * 1024 * 1024

# More files at a time are not faster on any disk, and would lie scattered on a slow one.
MAX_AT_A_TIME = 4


class _StoppedError(Exception):
    """Another file could not be written, so this one is not needed any more."""


def write_shards(
    shards: Sequence[OutputShard],
    folder: Path,
    source: Checkpoint,
    target: Path,
    *,
    finished: Callable[[str, int, str], None],
    task: Task,
) -> None:
    """Write weight files to `folder`, the room for all of them reserved before the first byte.

    Args:
        shards: the files.
        folder: where they are written; nothing of their names is there.
        source: where the ranges lie.
        target: what the folder is to become, for messages.
        finished: told, from several threads, of each file that is on disk: name, bytes, SHA-256.
        task: told of every byte.

    Raises:
        CheckpointError: the source is gone or has changed.
        OutputError: `target` cannot be written.
    """
    for shard in shards:
        with writing(target):
            descriptor = os.open(folder / shard.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                reserve(descriptor, shard.file_bytes)
            finally:
                os.close(descriptor)
    stop, shared = Event(), _Shared(task)

    def write(shard: OutputShard) -> None:
        sha256 = _write(shard, folder, source, target, shared, stop)
        finished(shard.name, shard.file_bytes, sha256)

    with ThreadPoolExecutor(at_a_time()) as pool:
        futures = [pool.submit(write, shard) for shard in shards]
        try:
            for future in as_completed(futures):
                error = future.exception()
                if error is not None and not isinstance(error, _StoppedError):
                    raise error
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def at_a_time() -> int:
    """How many weight files are written at once."""
    return max(1, min(MAX_AT_A_TIME, cores() // THREADS_PER_FILE))


class _Shared:
    """Lets several threads report to one task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._lock = Lock()

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._task.advance(amount)


@dataclass(frozen=True, slots=True)
class _Block:
    """The bytes of a file from `offset` on: its `number`-th block, from the `parts` in order."""

    number: int
    offset: int
    parts: tuple[Range | bytes, ...]


def _blocks(parts: Iterable[Range | bytes]) -> Iterator[_Block]:
    """A file's bytes in blocks of `BLOCK_BYTES`; the last one may be smaller."""
    number, offset = 0, 0
    found: list[Range | bytes] = []
    room = BLOCK_BYTES
    for part in parts:
        left = part
        while size := _size(left):
            taken, left = _cut(left, min(size, room))
            found.append(taken)
            room -= _size(taken)
            if not room:
                yield _Block(number, offset, tuple(found))
                number, offset, found, room = number + 1, offset + BLOCK_BYTES, [], BLOCK_BYTES
    if found:
        yield _Block(number, offset, tuple(found))


def _size(part: Range | bytes) -> int:
    return part.nbytes if isinstance(part, Range) else len(part)


def _cut(part: Range | bytes, at: int) -> tuple[Range | bytes, Range | bytes]:
    """The first `at` bytes and the others."""
    if isinstance(part, bytes):
        return part[:at], part[at:]
    middle = part.begin + at
    return Range(part.shard, part.begin, middle), Range(part.shard, middle, part.end)


def _parts(shard: OutputShard, sources: Sources) -> Iterator[Range | bytes]:
    """What a file consists of: its header, ranges of the source, and values that were changed."""
    yield shard.header
    for change, tensors in groupby(shard.tensors, key=lambda tensor: tensor.change):
        if change is None:
            yield from merged(each for tensor in tensors for each in tensor.ranges)
            continue
        for tensor in tensors:
            data = change(sources.read(tensor.ranges))
            if len(data) != tensor.nbytes:
                raise CheckpointError(
                    f"tensor {tensor.name!r} needs {tensor.nbytes} bytes as {tensor.dtype} "
                    f"{list(tensor.shape)}, but its new values take {len(data)}"
                )
            yield data


def _write(
    shard: OutputShard, folder: Path, source: Checkpoint, target: Path, task: Task, stop: Event
) -> str:
    """Write one file and wait until it is on disk; its SHA-256."""
    with ExitStack() as stack:
        with writing(target):
            descriptor = os.open(folder / shard.name, os.O_WRONLY | os.O_NOFOLLOW)
        stack.callback(os.close, descriptor)
        sources = stack.enter_context(Sources(source.path, source.shards.values()))
        file = _File(descriptor, _blocks(_parts(shard, sources)), source, target, task, stop)
        with ThreadPoolExecutor(THREADS_PER_FILE) as pool:
            threads = [pool.submit(file.work) for _ in range(THREADS_PER_FILE)]
            try:
                for thread in as_completed(threads):
                    thread.result()
            except BaseException:
                stop.set()
                raise
        with writing(target):
            os.fsync(descriptor)
        return file.hash.hexdigest()


class _File:
    """A file while several threads write it."""

    def __init__(
        self,
        descriptor: int,
        blocks: Iterator[_Block],
        source: Checkpoint,
        target: Path,
        task: Task,
        stop: Event,
    ) -> None:
        self.hash = hashlib.sha256()
        self._descriptor = descriptor
        self._blocks = blocks
        self._source = source
        self._target = target
        self._task = task
        self._stop = stop
        self._taking = Lock()
        self._state = Condition()  # guards what follows
        self._free = [memoryview(bytearray(BLOCK_BYTES)) for _ in range(BLOCKS)]
        self._copied: dict[int, tuple[memoryview, int]] = {}  # block -> its buffer, its bytes
        self._hashing = False
        self._hashed = 0  # blocks
        self._size = 0  # of these blocks, in bytes
        self._started = 0  # up to where the disk was told to write

    def work(self) -> None:
        """Copy and hash blocks until there are none left to be copied."""
        with Sources(self._source.path, self._source.shards.values()) as sources:
            while True:
                # First room, then a block: one that was taken never waits for those behind it.
                buffer = self._take_buffer()
                block = self._take_block()
                if block is None:
                    return
                self._hash_copied(block, buffer, self._copy(block, buffer, sources))

    def _take_buffer(self) -> memoryview:
        with self._state:
            while not self._free:
                self._state.wait(timeout=0.1)
                if self._stop.is_set():
                    raise _StoppedError
            return self._free.pop()

    def _take_block(self) -> _Block | None:
        with self._taking:
            if self._stop.is_set():
                raise _StoppedError
            return next(self._blocks, None)

    def _copy(self, block: _Block, buffer: memoryview, sources: Sources) -> int:
        """Read the parts of a block into `buffer` and write them; their bytes."""
        filled = written = 0
        for part in block.parts:
            if isinstance(part, bytes):
                buffer[filled : filled + len(part)] = part
                filled += len(part)
                continue
            at = part.begin
            while at < part.end:
                room = min(part.end - at, PIECE_BYTES)
                count = sources.read_into(buffer[filled : filled + room], part.shard, at)
                at, filled = at + count, filled + count
                if filled - written >= PIECE_BYTES:
                    self._write(buffer[written:filled], block.offset + written)
                    written = filled
        self._write(buffer[written:filled], block.offset + written)
        return filled

    def _write(self, data: memoryview, offset: int) -> None:
        with writing(self._target):
            while data:
                count = os.pwrite(self._descriptor, data, offset)
                data, offset = data[count:], offset + count

    def _hash_copied(self, block: _Block, buffer: memoryview, size: int) -> None:
        """Hash the blocks whose turn it is, unless the other thread does."""
        with self._state:
            self._copied[block.number] = (buffer, size)
            if self._hashing:
                return
            self._hashing = True
        while True:
            with self._state:
                if self._hashed not in self._copied:
                    self._hashing = False
                    return
                buffer, size = self._copied.pop(self._hashed)
            self.hash.update(buffer[:size])
            with self._state:
                self._hashed += 1
                self._size += size
                self._free.append(buffer)
                self._state.notify()
            self._task.advance(size)
            if self._size - self._started >= WRITE_BACK_BYTES:
                start_writing(self._descriptor, self._started, self._size)
                self._started = self._size
