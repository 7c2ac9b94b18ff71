"""Weight files written by any number of threads, at once or piece by piece."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from easyep.checkpoint import blocks, shard_file, shard_writing
from easyep.checkpoint.copying import Sources
from easyep.checkpoint.planning import Plan, plan
from easyep.checkpoint.shard_file import ShardFile
from easyep.checkpoint.shard_writing import ShardWriter
from easyep.errors import CheckpointError, OutputError
from tests.checkpoint.conftest import Chooser
from tests.checkpoint.raw_files import deepseek_fp8


@pytest.fixture
def work(tmp_path: Path, choose: Chooser) -> Plan:
    path = deepseek_fp8(tmp_path / "m")
    return plan(path, choose(path), max_shard_size=60_000)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (blocks, shard_file):
        monkeypatch.setattr(module, "BLOCK_BYTES", 1000)


def expected(work: Plan) -> dict[str, bytes]:
    """The files, from the whole source in memory."""
    source = {name: (work.checkpoint.path / name).read_bytes() for name in work.checkpoint.shards}
    return {
        shard.name: shard.header
        + b"".join(
            source[each.shard][each.begin : each.end]
            for tensor in shard.tensors
            for each in tensor.ranges
        )
        for shard in work.shards
    }


class Written:
    """A folder that is written to, and what was told of it."""

    def __init__(self, work: Plan, folder: Path, *, read_back: bool = False) -> None:
        folder.mkdir()
        self.folder = folder
        self.finished: dict[str, tuple[int, str]] = {}
        self.bytes = 0
        self.writer = ShardWriter(
            work.shards, folder, work.checkpoint, folder, finished=self.note, read_back=read_back
        )

    def note(self, name: str, size: int, sha256: str) -> None:
        self.finished[name] = size, sha256

    def advance(self, amount: int = 1) -> None:
        self.bytes += amount

    def check(self, files: dict[str, bytes]) -> None:
        assert {name: (self.folder / name).read_bytes() for name in files} == files
        assert self.finished == {
            name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
        }
        assert self.bytes == sum(map(len, files.values()))


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_files_are_the_same_with_any_number_of_threads(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(shard_writing, "cores", lambda: cores)
    assert len(work.shards) > 2
    written = Written(work, tmp_path / "out")
    written.writer.write({shard.name: shard.tensors for shard in work.shards}, written)
    written.writer.close()
    written.check(expected(work))


@pytest.mark.parametrize("step", [1, 3, 40])
def test_files_are_the_same_a_few_tensors_at_a_time(work: Plan, tmp_path: Path, step: int) -> None:
    written = Written(work, tmp_path / "out")
    for at in range(0, max(len(shard.tensors) for shard in work.shards), step):
        parts = {shard.name: shard.tensors[at : at + step] for shard in work.shards}
        written.writer.write({name: some for name, some in parts.items() if some}, written)
        done = {each.name for each in work.shards if len(each.tensors) <= at + step}
        assert written.finished.keys() == done
    written.writer.close()
    written.check(expected(work))


def test_room_is_reserved_before_the_first_byte(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(shard_file, "reserve", lambda descriptor, size: asked.append(size))
    written = Written(work, tmp_path / "out")
    assert asked == [len(data) for data in expected(work).values()]
    assert {path.name for path in written.folder.iterdir()} == {s.name for s in work.shards}
    with pytest.raises(OutputError, match="exists"):
        ShardWriter(
            work.shards,
            written.folder,
            work.checkpoint,
            tmp_path / "out",
            finished=written.note,
        )


@pytest.mark.parametrize("cores", [1, 4])
def test_the_first_error_stops_all_threads(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(shard_writing, "cores", lambda: cores)
    reads = []
    read_into: Callable[..., Any] = Sources.read_into

    def failing(self: Sources, *arguments: Any) -> int:
        reads.append(arguments)
        if len(reads) == 20:
            raise CheckpointError("gone")
        return int(read_into(self, *arguments))

    monkeypatch.setattr(Sources, "read_into", failing)
    written = Written(work, tmp_path / "out")
    with pytest.raises(CheckpointError, match="gone"):
        written.writer.write({shard.name: shard.tensors for shard in work.shards}, written)
    written.writer.close()
    assert len(reads) < 20 + 4 * cores
    assert len(written.finished) < len(work.shards)


def test_only_the_kept_ranges_are_asked_from_the_disk(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advised: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _fd, *rest: advised.append(rest))
    written = Written(work, tmp_path / "out")
    written.writer.write({shard.name: shard.tensors for shard in work.shards}, written)
    written.writer.close()
    written.check(expected(work))
    ahead = [size for _, size, advice in advised if advice == os.POSIX_FADV_WILLNEED]
    assert sum(ahead) == work.bytes_after
    assert sum(advice == os.POSIX_FADV_RANDOM for *_, advice in advised) > 0


def test_the_disk_is_asked_for_some_blocks_and_no_more(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three blocks behind the one that is read now."""
    monkeypatch.setattr(shard_file, "AHEAD_BYTES", 3000)
    asked: list[int] = []
    monkeypatch.setattr(Sources, "expect", lambda _, part: asked.append(part.end - part.begin))
    shard = max(work.shards, key=lambda each: each.nbytes)
    file = ShardFile(shard, tmp_path / "file", work.checkpoint, tmp_path, read_back=False)
    file.reserve()
    file.expect(shard.tensors)
    buffer = memoryview(bytearray(1000))
    for number in range(1, 4):
        assert file.copy(buffer) == 1000
        assert sum(asked) == (3 + number) * 1000 - len(shard.header)
    file.close()


def test_the_disk_writes_while_more_is_copied(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_file, "WRITE_BACK_BYTES", 2000)
    spans: dict[int, list[tuple[int, int]]] = {}
    monkeypatch.setattr(
        shard_file, "start_writing", lambda fd, *span: spans.setdefault(fd, []).append(span)
    )
    shard = max(work.shards, key=lambda each: each.nbytes)
    file = ShardFile(shard, tmp_path / "file", work.checkpoint, tmp_path, read_back=False)
    file.reserve()
    file.expect(shard.tensors)
    buffer = memoryview(bytearray(1000))
    while file.copy(buffer):
        pass
    file.close()
    (found,) = spans.values()
    assert found == [(at, at + 2000) for at in range(0, shard.file_bytes - 1999, 2000)]


def test_what_is_told_to_be_finished_is_on_disk(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", noted)
    written = Written(work, tmp_path / "out")

    def finished(name: str, size: int, sha256: str) -> None:
        assert name in synced
        assert (written.folder / name).stat().st_size == size

    written.writer._finished = finished
    written.writer.write({shard.name: shard.tensors for shard in work.shards}, written)
    assert all(file._descriptor < 0 for file in written.writer._files.values())  # closed at once
    assert not any(file._sources._open for file in written.writer._files.values())
    written.writer.close()
    assert synced == {shard.name for shard in work.shards}


@pytest.mark.parametrize(
    ("cores", "files", "threads"),
    [(1, 1, 2), (1, 3, 4), (3, 3, 4), (5, 3, 5), (99, 3, 6), (99, 7, 8)],
)
def test_there_are_some_threads_for_each_file_and_not_too_many(
    work: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    files: int,
    threads: int,
) -> None:
    started: list[int] = []
    pool = shard_writing.ThreadPoolExecutor

    def made(workers: int) -> Any:
        started.append(workers)
        return pool(workers)

    monkeypatch.setattr(shard_writing, "ThreadPoolExecutor", made)
    monkeypatch.setattr(shard_writing, "cores", lambda: cores)
    written = Written(work, tmp_path / "out")
    assert len(work.shards) >= files
    some = {shard.name: shard.tensors for shard in work.shards[:files]}
    written.writer.write(some, written)
    written.writer.close()
    assert started == [threads]


def test_so_many_files_are_written_side_by_side_and_no_more(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_writing, "AT_A_TIME", 3)
    monkeypatch.setattr(shard_writing, "cores", lambda: 8)
    written = Written(work, tmp_path / "out")
    state, files = written.writer._state, written.writer._open
    seen: list[int] = []

    class Counting:
        def advance(self, amount: int = 1) -> None:
            """Is called by who holds `state`; the first to come gives the other threads time."""
            if not seen:
                state.wait_for(lambda: len(files) >= 3, timeout=5)
            seen.append(len(files))

    written.writer.write({shard.name: shard.tensors for shard in work.shards}, Counting())
    written.writer.close()
    assert max(seen) == 3
    assert written.finished.keys() == {shard.name for shard in work.shards}


def test_a_block_that_is_copied_leaves_the_hash_to_the_thread_that_computes_it(
    work: Plan, tmp_path: Path
) -> None:
    """Two threads would hash blocks in any order."""
    written = Written(work, tmp_path / "out")
    shard = max(work.shards, key=lambda each: each.nbytes)
    file = written.writer._files[shard.name]
    file.expect(shard.tensors)
    file.hashing = True
    written.writer._copy(file)
    assert file.hashing
    assert len(file.copied) == 1
    written.writer.close()


def test_room_for_blocks_is_used_again(work: Plan, tmp_path: Path) -> None:
    written = Written(work, tmp_path / "out")
    shard = max(work.shards, key=lambda each: len(each.tensors))
    file = written.writer._files[shard.name]
    for tensor in shard.tensors[:6]:
        written.writer.write({shard.name: [tensor]}, written)
        assert len(file.free) == shard_file.WAITING
    written.writer.close()


def test_an_interruption_while_threads_work_ends_them(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_writing, "wait", interrupted)
    written = Written(work, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        written.writer.write({shard.name: shard.tensors for shard in work.shards}, written)
    written.writer.close()


def test_nothing_to_write_is_nothing_done(work: Plan, tmp_path: Path) -> None:
    written = Written(work, tmp_path / "out")
    written.writer.write({}, written)
    written.writer.close()
    assert not written.finished
    assert not written.bytes


def test_a_file_that_gives_back_other_bytes_is_an_error(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite: Callable[..., int] = os.pwrite
    written = Written(work, tmp_path / "out", read_back=True)
    written.writer.write({work.shards[0].name: work.shards[0].tensors}, written)
    assert written.finished.keys() == {work.shards[0].name}
    calls = 0

    def one_bit_off(descriptor: int, data: memoryview, offset: int) -> int:
        nonlocal calls
        calls += 1
        changed = bytearray(data)
        changed[-1] ^= calls == 3
        return pwrite(descriptor, changed, offset)

    monkeypatch.setattr(os, "pwrite", one_bit_off)
    with pytest.raises(OutputError, match="does not give back what was written"):
        written.writer.write({work.shards[1].name: work.shards[1].tensors}, written)
    written.writer.close()


def test_a_file_that_became_shorter_is_an_error(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(work, tmp_path / "out", read_back=True)
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    monkeypatch.setattr(Sources, "read_into", lambda self, room, shard, at: len(room))
    with pytest.raises(OutputError, match="does not give back what was written to its bytes 0 to"):
        written.writer.write({work.shards[0].name: work.shards[0].tensors}, written)
    written.writer.close()
    assert not written.finished


@pytest.mark.parametrize("at_once", [1, 7, 999])
def test_a_disk_that_takes_a_few_bytes_at_a_time(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Of every block some bytes are written and read back at a time, until all are."""
    pwrite: Callable[..., int] = os.pwrite
    preadv: Callable[..., int] = os.preadv
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: pwrite(file, data[:at_once], at))
    monkeypatch.setattr(
        os, "preadv", lambda file, rooms, at: preadv(file, [rooms[0][: max(at_once, 50)]], at)
    )
    written = Written(work, tmp_path / "out", read_back=True)
    some = {work.shards[0].name: work.shards[0].tensors}
    written.writer.write(some, written)
    written.writer.close()
    files = expected(work)
    written.check({name: files[name] for name in some})


def test_where_one_thread_cannot_start_the_others_do_not_write_on(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = Event()
    submit, stop = ThreadPoolExecutor.submit, ShardWriter._stop
    asked: list[Callable[[], None]] = []

    def submitting(pool: ThreadPoolExecutor, step: Callable[[], None]) -> Any:
        asked.append(step)
        if len(asked) == 2:
            raise RuntimeError("can't start new thread")

        def late() -> None:
            stopped.wait(5)
            step()

        return submit(pool, late)

    def stopping(writer: ShardWriter, error: BaseException) -> None:
        stop(writer, error)
        stopped.set()

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submitting)
    monkeypatch.setattr(ShardWriter, "_stop", stopping)
    written = Written(work, tmp_path / "out")
    with pytest.raises(RuntimeError, match="can't start"):
        written.writer.write({shard.name: shard.tensors for shard in work.shards}, written)
    written.writer.close()
    assert written.bytes == 0
    assert not written.finished
