"""The weight files of a plan, written: byte ranges copied, and hashed on the way.

Hashing takes twice as long as copying, and the hash of a file is made from its beginning to its
end. So as many files are written side by side as there are cores, each copied and hashed by one
thread, block by block. A thread without a file of its own helps another one's: it copies the next
blocks there while they are hashed. No two threads write to one file at a time: they would wait
for each other in the kernel.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Condition

from easyep.atomic import writing
from easyep.checkpoint.blocks import BLOCK_BYTES, Block, blocks, contents
from easyep.checkpoint.copying import Range, Sources
from easyep.checkpoint.disk import reserve, start_writing
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.output_files import OutputShard, OutputTensor
from easyep.checkpoint.proofreading import cores
from easyep.progress import Task

# So many blocks of a file may wait for their hash.
WAITING = 4

# The disk reads so far ahead of what is copied.
AHEAD_BYTES = 16 * 1024 * 1024

# After so many bytes the disk begins to write them, while the next ones are copied.
WRITE_BACK_BYTES = 32 * 1024 * 1024

# More files at a time are not faster on any disk, and would lie scattered on a slow one.
MAX_AT_A_TIME = 4
MAX_THREADS = 8

Finished = Callable[[str, int, str], None]


class _StoppedError(Exception):
    """Another file could not be written, so this one is not needed any more."""


class ShardWriter:
    """Weight files that are written to a folder, in one go or a few tensors at a time.

    Args:
        shards: the files.
        folder: where they are written; nothing of their names is there.
        source: where the ranges lie.
        target: what the folder is to become, for messages.
        finished: told, from several threads, of each file that is on disk: name, bytes, SHA-256.
        task: told of every byte.

    Raises:
        OutputError: there is no room for all files; it is reserved before the first byte.
    """

    def __init__(
        self,
        shards: Sequence[OutputShard],
        folder: Path,
        source: Checkpoint,
        target: Path,
        *,
        finished: Finished,
        task: Task,
    ) -> None:
        self._finished = finished
        self._task = task
        self._state = Condition()  # guards what follows, and the state of the files
        self._waiting: deque[_File] = deque()
        self._open: list[_File] = []
        self._error: BaseException | None = None
        self._files = {
            each.name: _File(each, folder / each.name, source, target) for each in shards
        }
        for file in self._files.values():
            file.reserve()

    def write(self, tensors: Mapping[str, Sequence[OutputTensor]]) -> None:
        """Go on with files; those that become complete are on disk when this returns.

        Args:
            tensors: for each of some files the tensors that come next in it.

        Raises:
            CheckpointError: the source is gone or has changed.
            OutputError: the target cannot be written.
        """
        for name, some in tensors.items():
            self._files[name].expect(some)
            self._waiting.append(self._files[name])
        threads = min(cores(), MAX_THREADS, len(self._waiting) * 2)
        with ThreadPoolExecutor(max(1, threads)) as pool:
            working = [pool.submit(self._work) for _ in range(threads)]
            try:
                for each in as_completed(working):
                    each.result()
            except BaseException as error:
                self._stop(error)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the files; those that are not complete stay as they are."""
        for file in self._files.values():
            file.close()

    def _stop(self, error: BaseException) -> None:
        with self._state:
            if self._error is None or isinstance(self._error, _StoppedError):
                self._error = error
            self._state.notify_all()

    def _work(self) -> None:
        """Take one step after the other until none is left."""
        mine: _File | None = None
        try:
            while (taken := self._next_step(mine)) is not None:
                mine, step = taken
                step(mine)
        except BaseException as error:
            self._stop(error)
            raise

    def _next_step(self, mine: "_File | None") -> "tuple[_File, Callable[[_File], None]] | None":
        """What a thread is to do next; it goes on with the file it was at if it can.

        Returns:
            None when nothing is left to be done.
        """
        with self._state:
            while True:
                if self._error is not None:
                    raise _StoppedError
                order = [mine] if mine in self._open and mine is not None else []
                helped = [file for file in self._open if file is not mine]
                for file in order:
                    if step := self._step_of(file):
                        return file, step
                if self._waiting and len(self._open) < min(MAX_AT_A_TIME, cores()):
                    self._open.append(self._waiting.popleft())
                    helped.insert(0, self._open[-1])
                for file in helped:
                    if step := self._step_of(file):
                        return file, step
                if not self._open:
                    return None
                self._state.wait()

    def _step_of(self, file: "_File") -> "Callable[[_File], None] | None":
        """The step that `file` has for one more thread."""
        if file.copied and not file.hashing:
            file.hashing = True
            return self._hash
        if file.free and not file.copying and not file.all_copied:
            file.copying = True
            return self._copy
        return None

    def _copy(self, file: "_File") -> None:
        buffer = file.free.pop()
        size = file.copy(buffer)
        with self._state:
            file.copying = False
            if size:
                file.copied.append((buffer, size))
            else:
                file.all_copied = True
                file.free.append(buffer)
            # The last block may have been hashed before it was known to be the last.
            last = not size and not file.copied and not file.hashing
            file.hashing = file.hashing or last
            self._state.notify_all()
        if last:
            self._end(file)

    def _hash(self, file: "_File") -> None:
        buffer, size = file.copied.popleft()
        file.hash.update(buffer[:size])
        self._task_advance(size)
        with self._state:
            file.free.append(buffer)
            last = file.all_copied and not file.copied
            file.hashing = last
            self._state.notify_all()
        if last:
            self._end(file)

    def _end(self, file: "_File") -> None:
        """All that was to be written is written; only one thread comes here."""
        if file.complete:
            self._finished(file.shard.name, file.size, file.sync())
            file.close()
        with self._state:
            file.hashing = False
            self._open.remove(file)
            self._state.notify_all()

    def _task_advance(self, amount: int) -> None:
        with self._state:
            self._task.advance(amount)


class _File:
    """A file while it is written. Its public fields are guarded by the writer."""

    def __init__(self, shard: OutputShard, path: Path, source: Checkpoint, target: Path) -> None:
        self.shard = shard
        self.size = shard.file_bytes
        self.hash = hashlib.sha256()
        self.copying = self.hashing = self.all_copied = False
        self.free: list[memoryview] = []
        self.copied: deque[tuple[memoryview, int]] = deque()
        self._path = path
        self._target = target
        self._sources = Sources(source.path, source.shards.values())
        self._descriptor = -1
        self._blocks: Iterator[Block] = iter(())
        self._ahead: deque[Block] = deque()
        self._written = self._started = 0

    @property
    def complete(self) -> bool:
        """Whether every byte is there."""
        return self._written == self.size

    def reserve(self) -> None:
        """Make the file, its room on disk its own."""
        with writing(self._target):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = os.open(self._path, flags, 0o666)
            try:
                reserve(descriptor, self.size)
            finally:
                os.close(descriptor)

    def expect(self, tensors: Sequence[OutputTensor]) -> None:
        """Take these tensors next, behind the header if nothing is there yet."""

        def parts() -> Iterator[Range | bytes]:
            if not self._written:
                yield self.shard.header
            yield from contents(tensors, self._sources)

        self._blocks = blocks(parts())
        self.all_copied = False
        if self._descriptor < 0:
            with writing(self._target):
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW)
        if not self.free:
            self.free = [memoryview(bytearray(BLOCK_BYTES)) for _ in range(WAITING)]

    def copy(self, buffer: memoryview) -> int:
        """Read the next block into `buffer` and write it; its bytes, 0 behind the last."""
        self._look_ahead()
        if not self._ahead:
            return 0
        filled = 0
        for part in self._ahead.popleft().parts:
            if isinstance(part, bytes):
                buffer[filled : filled + len(part)] = part
                filled += len(part)
                continue
            at = part.begin
            while at < part.end:
                room = buffer[filled : filled + part.end - at]
                count = self._sources.read_into(room, part.shard, at)
                at, filled = at + count, filled + count
        self._write(buffer[:filled])
        return filled

    def _look_ahead(self) -> None:
        """Have the disk read what is copied soon, and nothing that lies between."""
        while len(self._ahead) <= AHEAD_BYTES // BLOCK_BYTES:
            block = next(self._blocks, None)
            if block is None:
                return
            for part in block.parts:
                if isinstance(part, Range):
                    self._sources.expect(part)
            self._ahead.append(block)

    def _write(self, data: memoryview) -> None:
        with writing(self._target):
            while data:
                count = os.pwrite(self._descriptor, data, self._written)
                data, self._written = data[count:], self._written + count
        if self._written - self._started >= WRITE_BACK_BYTES:
            start_writing(self._descriptor, self._started, self._written)
            self._started = self._written

    def sync(self) -> str:
        """Wait until the file is on disk; its SHA-256."""
        with writing(self._target):
            os.fsync(self._descriptor)
        return self.hash.hexdigest()

    def close(self) -> None:
        self._sources.close()
        self.free = []
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
