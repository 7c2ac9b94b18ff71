"""The weight files of a plan, written: byte ranges copied, and hashed on the way.

Hashing takes twice as long as copying, and the hash of a file is made from its beginning to its
end. So several files are written side by side, each copied and hashed by one thread, block by
block. A thread without a file of its own helps another one's: it copies the next blocks there
while they are hashed. No two threads write to one file at a time: they would wait for each other
in the kernel.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Condition

from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.output_files import OutputShard, OutputTensor
from easyep.checkpoint.proofreading import cores
from easyep.checkpoint.shard_file import ShardFile
from easyep.progress import Task

# On few cores too: while the disk lets one file wait, another one is hashed. More files at a time
# are not faster on any disk, and would lie scattered on a slow one.
AT_A_TIME = 4
MAX_THREADS = 8

Finished = Callable[[str, int, str], None]


class ShardWriter:
    """Weight files that are written to a folder, in one go or a few tensors at a time.

    Args:
        shards: the files.
        folder: where they are written; nothing of their names is there.
        source: where the ranges lie.
        target: what the folder is to become, for messages.
        finished: told, from several threads, of each file that is on disk: name, bytes, SHA-256.
        read_back: whether each block is read again when it is written, and compared.

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
        read_back: bool = False,
    ) -> None:
        self._finished = finished
        self._task: Task | None = None
        self._state = Condition()  # guards what follows, and the state of the files
        self._waiting: deque[ShardFile] = deque()
        self._open: list[ShardFile] = []
        self._error: BaseException | None = None
        self._files = {
            each.name: ShardFile(each, folder / each.name, source, target, read_back)
            for each in shards
        }
        for file in self._files.values():
            file.reserve()

    def write(self, tensors: Mapping[str, Sequence[OutputTensor]], task: Task) -> None:
        """Go on with files; those that become complete are on disk when this returns.

        Args:
            tensors: for each of some files the tensors that come next in it.
            task: told of every byte.

        Raises:
            CheckpointError: the source is gone or has changed.
            OutputError: the target cannot be written, or gives back other bytes.
        """
        self._task = task
        for name, some in tensors.items():
            self._files[name].expect(some)
            self._waiting.append(self._files[name])
        threads = min(max(cores(), AT_A_TIME), MAX_THREADS, len(self._waiting) * 2)
        with ThreadPoolExecutor(max(1, threads)) as pool:
            try:
                wait([pool.submit(self._work) for _ in range(threads)])
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
            if self._error is None:
                self._error = error
            self._state.notify_all()

    def _work(self) -> None:
        """Take one step after the other until none is left."""
        mine: ShardFile | None = None
        try:
            while (taken := self._next_step(mine)) is not None:
                mine, step = taken
                step(mine)
        except BaseException as error:
            self._stop(error)

    def _next_step(
        self, mine: ShardFile | None
    ) -> tuple[ShardFile, Callable[[ShardFile], None]] | None:
        """What a thread is to do next; it goes on with the file it was at if it can.

        Returns:
            None when nothing is left to be done, or somewhere something failed.
        """
        with self._state:
            while True:
                if self._error is not None:
                    return None
                if mine is not None and (step := self._step_of(mine)):
                    return mine, step
                if self._waiting and len(self._open) < AT_A_TIME:
                    mine = self._waiting.popleft()
                    self._open.append(mine)
                    continue
                for file in self._open:
                    if step := self._step_of(file):
                        return file, step
                if not self._open:
                    return None
                self._state.wait()

    def _step_of(self, file: ShardFile) -> Callable[[ShardFile], None] | None:
        """The step that `file` has for one more thread."""
        if file.copied and not file.hashing:
            file.hashing = True
            return self._hash
        if file.free and not file.copying and not file.all_copied:
            file.copying = True
            return self._copy
        return None

    def _copy(self, file: ShardFile) -> None:
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

    def _hash(self, file: ShardFile) -> None:
        buffer, size = file.copied.popleft()
        file.hash.update(buffer[:size])
        with self._state:
            assert self._task is not None
            self._task.advance(size)
            file.free.append(buffer)
            last = file.all_copied and not file.copied
            file.hashing = last
            self._state.notify_all()
        if last:
            self._end(file)

    def _end(self, file: ShardFile) -> None:
        """All that was to be written is written; only one thread comes here."""
        if file.complete:
            self._finished(file.shard.name, file.size, file.sync())
            file.close()
        with self._state:
            file.hashing = False
            self._open.remove(file)
            self._state.notify_all()
