"""The weight files of a plan, written: byte ranges copied, hashed on the way, several at a time."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from threading import Event, Lock

from easyep.atomic import writing
from easyep.checkpoint.copying import Range, Sources, merged
from easyep.checkpoint.disk import reserve, start_writing
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.output_files import OutputShard
from easyep.checkpoint.proofreading import cores
from easyep.errors import CheckpointError
from easyep.progress import Task

# Read and written at a time: what stays in the cache of a core until it is written.
PIECE_BYTES = 128 * 1024

# Handed to the hash at a time, so that threads meet rarely; blocks go round in turn.
BLOCK_BYTES = 1024 * 1024
BLOCKS = 4

# Written back to disk at a time.
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
        size, sha256 = _write(shard, folder, source, target, shared, stop)
        finished(shard.name, size, sha256)

    with ThreadPoolExecutor(at_a_time()) as pool:
        futures = [pool.submit(write, shard) for shard in shards]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def at_a_time() -> int:
    """How many weight files are written at once; each keeps two cores busy."""
    return max(1, min(MAX_AT_A_TIME, cores() // 2))


class _Shared:
    """Lets several threads report to one task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._lock = Lock()

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._task.advance(amount)


def _write(
    shard: OutputShard, folder: Path, source: Checkpoint, target: Path, task: Task, stop: Event
) -> tuple[int, str]:
    """Write one file and wait until it is on disk; its size and SHA-256."""
    with ExitStack() as stack:
        sources = stack.enter_context(Sources(source.path, source.shards.values()))
        with writing(target):
            descriptor = os.open(folder / shard.name, os.O_WRONLY | os.O_NOFOLLOW)
        stack.callback(os.close, descriptor)
        hasher = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        file = _Writer(descriptor, target, hasher, task, stop)
        file.write(shard.header)
        for change, tensors in groupby(shard.tensors, key=lambda tensor: tensor.change):
            if change is None:
                file.copy(merged(each for t in tensors for each in t.ranges), sources)
                continue
            for tensor in tensors:
                data = change(sources.read(tensor.ranges))
                if len(data) != tensor.nbytes:
                    raise CheckpointError(
                        f"tensor {tensor.name!r} needs {tensor.nbytes} bytes as {tensor.dtype} "
                        f"{list(tensor.shape)}, but its new values take {len(data)}"
                    )
                file.write(data)
        return file.finish()


class _Writer:
    """Writes a file from its beginning and hashes it, the hash on a thread of its own.

    Bytes are collected in a block; each full piece of it is written, each full block is hashed.
    """

    def __init__(
        self, descriptor: int, target: Path, hasher: ThreadPoolExecutor, task: Task, stop: Event
    ) -> None:
        self._descriptor = descriptor
        self._target = target
        self._hasher = hasher
        self._task = task
        self._stop = stop
        self._hash = hashlib.sha256()
        self._blocks = [memoryview(bytearray(BLOCK_BYTES)) for _ in range(BLOCKS)]
        self._hashing: list[Future[None] | None] = [None] * BLOCKS
        self._turn = 0
        self._filled = 0  # bytes of the block in turn
        self._written = 0  # those of them that are written
        self._size = 0  # of the file so far
        self._started = 0  # up to where the file is being written back

    def write(self, data: bytes) -> None:
        """Append `data`."""
        left = memoryview(data)
        while left:
            room = self._room(len(left))
            room[:] = left[: len(room)]
            left = left[len(room) :]
            self._take(len(room))

    def copy(self, ranges: Iterable[Range], sources: Sources) -> None:
        """Append the bytes of `ranges`."""
        for each in ranges:
            at = each.begin
            while at < each.end:
                count = sources.read_into(self._room(each.end - at), each.shard, at)
                at += count
                self._take(count)

    def finish(self) -> tuple[int, str]:
        """Wait until the file is on disk; its size and SHA-256."""
        self._flush()
        self._hand_over()
        with writing(self._target):
            os.fsync(self._descriptor)
        for hashing in self._hashing:
            if hashing is not None:
                hashing.result()
        return self._size, self._hash.hexdigest()

    def _room(self, wanted: int) -> memoryview:
        """Where the next bytes go, at most `wanted` of them."""
        end = min(self._filled + wanted, self._written + PIECE_BYTES)
        return self._blocks[self._turn][self._filled : end]

    def _take(self, count: int) -> None:
        """`count` bytes more are in the block."""
        self._filled += count
        if self._filled - self._written == PIECE_BYTES:
            self._flush()
            if self._filled == BLOCK_BYTES:
                self._hand_over()

    def _flush(self) -> None:
        """Write what is in the block and not yet written."""
        if self._stop.is_set():
            raise _StoppedError
        left = self._blocks[self._turn][self._written : self._filled]
        with writing(self._target):
            while left:
                left = left[os.write(self._descriptor, left) :]
        self._size += self._filled - self._written
        self._written = self._filled
        if self._size - self._started >= WRITE_BACK_BYTES:
            start_writing(self._descriptor, self._started, self._size)
            self._started = self._size

    def _hand_over(self) -> None:
        """Have the block hashed, and go on with the one whose hash is done longest ago."""
        block = self._blocks[self._turn][: self._filled]
        self._hashing[self._turn] = self._hasher.submit(self._hash.update, block)
        self._task.advance(self._filled)
        self._turn = (self._turn + 1) % BLOCKS
        self._filled = self._written = 0
        hashing = self._hashing[self._turn]
        if hashing is not None:
            hashing.result()
