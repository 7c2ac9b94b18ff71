"""Every byte of a pruned checkpoint, read once: hashed, and held against what it must be."""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Event

from easyep.checkpoint.comparison import Counterpart, Differences
from easyep.checkpoint.copying import BUFFER_BYTES, Range, Sources, merged
from easyep.checkpoint.files import Checkpoint, checked_file
from easyep.errors import CheckpointError
from easyep.progress import Progress, Task

# Each of them keeps some files open, and so many read faster than disks deliver.
MAX_JOBS = 16


@dataclass(frozen=True)
class Proof:
    """What was found in one file.

    Attributes:
        sha256: of its content; empty where it cannot be read.
        unreadable: why it cannot be read; empty where it can.
        differences: what differs from the source, in words.
    """

    sha256: str = ""
    unreadable: str = ""
    differences: tuple[str, ...] = ()


def proofread(
    root: Path,
    names: Iterable[str],
    counterparts: Iterable[Counterpart],
    source: Checkpoint | None,
    *,
    limit: int,
    jobs: int | None,
    progress: Progress,
) -> dict[str, Proof]:
    """Read files of the checkpoint directory `root`, several at a time, each from end to end.

    Args:
        root: the directory (resolved).
        names: the files.
        counterparts: what the tensors in them must equal; files without any are only hashed.
        source: where the counterparts lie.
        limit: how many differences of one file are told.
        jobs: files read at a time; None = one for each core, at most `MAX_JOBS`.
        progress: told of every byte of `names`, from several threads.

    Returns:
        File -> what was found.

    Raises:
        CheckpointError: the source cannot be read.
    """
    in_file: dict[str, list[Counterpart]] = {}
    for each in counterparts:
        in_file.setdefault(each.pruned.shard, []).append(each)
    proofs: dict[str, Proof] = {}
    sizes: dict[str, int] = {}
    for name in names:
        try:
            sizes[name] = checked_file(root, name).stat().st_size
        except CheckpointError as error:
            proofs[name] = Proof(unreadable=str(error))
    stop = Event()

    def read(name: str) -> Proof:
        here = in_file.get(name, [])
        with Sources(*((source.path, source.shards.values()) if source else (root, ()))) as sources:
            return _read(root, name, here, sources, limit, task, stop)

    # The largest first, so that no core is left with one of them at the end.
    order = sorted(sizes, key=lambda name: -sizes[name])
    with (
        progress.task("verifying", sum(sizes.values()), "bytes") as task,
        ThreadPoolExecutor(jobs or min(cores(), MAX_JOBS)) as pool,
    ):
        try:
            proofs.update(zip(order, pool.map(read, order), strict=True))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return proofs


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read(
    root: Path,
    name: str,
    counterparts: list[Counterpart],
    sources: Sources,
    limit: int,
    task: Task,
    stop: Event,
) -> Proof:
    """Read one file, until `stop` is set."""
    digest, differences = hashlib.sha256(), Differences(counterparts, limit)
    expected = _Expected(differences.counterparts, sources)
    mine, theirs = bytearray(BUFFER_BYTES), bytearray(BUFFER_BYTES)
    borders = _borders(differences.counterparts)
    at = 0
    try:
        with open(checked_file(root, name), "rb", buffering=0) as file:
            while not stop.is_set():
                passed = bisect_right(borders, at)
                room = borders[passed] - at if passed < len(borders) else BUFFER_BYTES
                count = file.readinto(memoryview(mine)[:room])
                if not count:
                    break
                digest.update(memoryview(mine)[:count])
                if passed % 2 and not differences.full:
                    expected.fill(memoryview(theirs)[:count])
                    if not _equal(mine, theirs, count):
                        differences.add(mine[:count], theirs[:count], at)
                task.advance(count)
                at += count
    except OSError as error:
        return Proof(unreadable=f"{name} cannot be read: {error.strerror or error}")
    return Proof(digest.hexdigest(), differences=tuple(differences.words))


def _borders(counterparts: list[Counterpart]) -> list[int]:
    """Where bytes with a counterpart begin and end, in turn.

    The header has none, it was compared as names and formats; nor have tables of experts.
    """
    borders: list[int] = []
    for each in counterparts:
        if borders and borders[-1] == each.pruned.begin:
            borders[-1] = each.pruned.end
        elif each.pruned.nbytes:
            borders += [each.pruned.begin, each.pruned.end]
    return borders


def _equal(mine: bytearray, theirs: bytearray, length: int) -> bool:
    if length == len(mine):
        return mine == theirs  # spares the copies
    return mine[:length] == theirs[:length]


class _Expected:
    """The bytes that the tensors of one file must have, one tensor behind the other."""

    def __init__(self, counterparts: Iterable[Counterpart], sources: Sources) -> None:
        self._sources = sources
        self._ranges = merged(chain.from_iterable(each.ranges() for each in counterparts))
        self._range, self._at = Range("", 0, 0), 0

    def fill(self, buffer: memoryview) -> None:
        """Fill `buffer` with the next bytes; there must be as many."""
        filled = 0
        while filled < len(buffer):
            if self._at == self._range.end:
                self._range = next(self._ranges)
                self._at = self._range.begin
            room = min(len(buffer) - filled, self._range.end - self._at)
            part = buffer[filled : filled + room]
            count = self._sources.read_into(part, self._range.shard, self._at)
            self._at, filled = self._at + count, filled + count
