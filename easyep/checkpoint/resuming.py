"""How a rewrite that was cut short is recognised, and what of it is trusted."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import partial

from easyep.checkpoint.files import Checkpoint, checked_file
from easyep.checkpoint.manifest import easyep_version
from easyep.checkpoint.output_files import OutputShard, OutputTensor
from easyep.checkpoint.planning import Plan
from easyep.checkpoint.proofreading import proofread
from easyep.checkpoint.work_folder import WorkFolder
from easyep.errors import CheckpointError
from easyep.progress import Progress

Stamps = Mapping[str, tuple[int, int]]


def stamps(source: Checkpoint) -> dict[str, tuple[int, int]]:
    """Weight file -> its size in bytes and the time of its last change in nanoseconds.

    Raises:
        CheckpointError: one of the files is gone.
    """
    found = {}
    for name in source.shards:
        status = checked_file(source.path, name).stat()
        found[name] = (status.st_size, status.st_mtime_ns)
    return found


def has_changed(source: Checkpoint, before: Stamps) -> bool:
    """Whether a weight file is another than it was; one that is gone may come back."""
    try:
        return stamps(source) != before
    except CheckpointError:
        return False


def purpose(work: Plan, source: Stamps, decided_by: str | None = None) -> dict[str, str]:
    """All that the weight files of a plan depend on: only a rewrite with the same goes on.

    Args:
        work: the plan.
        source: the weight files of the source.
        decided_by: where the experts are not known yet, what decides which they will be.
    """
    choice = sorted(work.kept_experts.items()) if decided_by is None else decided_by
    planned = hashlib.sha256(_hashable([work.mtp, choice]))
    for shard in work.shards:
        tensors = shard.tensors if decided_by is None else ()
        planned.update(digest(shard, tensors).encode())
    model = work.checkpoint.identity("").to_json()
    return {
        "easyep": easyep_version(),
        "source": hashlib.sha256(_hashable([model, sorted(source.items())])).hexdigest(),
        "plan": planned.hexdigest(),
    }


def digest(shard: OutputShard, tensors: Iterable[OutputTensor]) -> str:
    """A SHA-256 of what is planned for the first `tensors` of a weight file."""
    planned = hashlib.sha256(shard.name.encode() + shard.header)
    for tensor in tensors:
        for each in tensor.ranges:
            planned.update(f"{each.shard} {each.begin} {each.end}\n".encode())
        if isinstance(tensor.change, partial):
            planned.update(repr(sorted(tensor.change.keywords.items())).encode())
    return planned.hexdigest()


def intact(work: Plan, place: WorkFolder, progress: Progress) -> set[str]:
    """The weight files of an earlier run that still have the bytes that they were noted with."""
    sizes = {shard.name: shard.file_bytes for shard in work.shards}
    noted = place.finished.items()
    found = {name: each for name, each in noted if each.size == sizes.get(name)}
    proofs = proofread(place.files, found, (), None, limit=1, jobs=None, progress=progress)
    return {name for name, each in found.items() if proofs[name].sha256 == each.sha256}


def _hashable(value: object) -> bytes:
    return json.dumps(value).encode()
