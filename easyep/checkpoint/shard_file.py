"""One weight file while it is written: its next blocks, its hash so far, what waits for it."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from easyep.atomic import writing
from easyep.checkpoint.blocks import BLOCK_BYTES, Block, blocks, contents
from easyep.checkpoint.copying import Range, Sources
from easyep.checkpoint.disk import reserve, start_writing
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.output_files import OutputShard, OutputTensor
from easyep.errors import OutputError

# So many blocks of a file may wait for their hash.
WAITING = 4

# The disk reads so far ahead of what is copied.
AHEAD_BYTES = 16 * 1024 * 1024

# After so many bytes the disk begins to write them, while the next ones are copied.
WRITE_BACK_BYTES = 32 * 1024 * 1024


class ShardFile:
    """A file while it is written. Its public fields are guarded by the writer."""

    def __init__(
        self, shard: OutputShard, path: Path, source: Checkpoint, target: Path, read_back: bool
    ) -> None:
        self.shard = shard
        self.size = shard.file_bytes
        self.hash = hashlib.sha256()
        self.copying = self.hashing = self.all_copied = False
        self.free: list[memoryview] = []
        self.copied: deque[tuple[memoryview, int]] = deque()
        self._path = path
        self._target = target
        self._back = bytearray(BLOCK_BYTES) if read_back else None
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
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW)
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
        left, begin = data, self._written
        with writing(self._target):
            while left:
                count = os.pwrite(self._descriptor, left, self._written)
                left, self._written = left[count:], self._written + count
            if self._back is not None and not self._same(data, begin):
                raise OutputError(
                    f"{self._path} does not give back what was written to its bytes {begin} to "
                    f"{self._written}; check the disk"
                )
        if self._written - self._started >= WRITE_BACK_BYTES:
            start_writing(self._descriptor, self._started, self._written)
            self._started = self._written

    def _same(self, data: memoryview, begin: int) -> bool:
        """Whether the file has `data` at `begin`, where `data` was just written."""
        assert self._back is not None
        filled = 0
        while filled < len(data):
            room = memoryview(self._back)[filled : len(data)]
            count = os.preadv(self._descriptor, [room], begin + filled)
            if not count:
                return False
            filled += count
        # Compared in bulk, which two views are not.
        return (self._back if filled == len(self._back) else self._back[:filled]) == data

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
