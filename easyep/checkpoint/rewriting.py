"""Writing the pruned checkpoint: byte ranges copied, nothing re-encoded, all of it or nothing."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from easyep.artifacts.selection import Selection
from easyep.atomic import writing
from easyep.checkpoint import resuming
from easyep.checkpoint.config_edits import (
    QUANTISATION_FILES,
    edited_text,
    quantisation_file_edits,
)
from easyep.checkpoint.copying import BUFFER_BYTES
from easyep.checkpoint.files import (
    CONFIG,
    INDEX,
    SINGLE,
    Checkpoint,
    checked_file,
    parse_object,
    read_text,
)
from easyep.checkpoint.kept_experts import MTP_MODES
from easyep.checkpoint.layout import Layout
from easyep.checkpoint.manifest import manifest_document
from easyep.checkpoint.planning import MAX_SHARD_BYTES, Plan, plan
from easyep.checkpoint.renumbering import renaming
from easyep.checkpoint.shard_writing import ShardWriter
from easyep.checkpoint.side_files import MANIFEST, MODEL_CARD
from easyep.checkpoint.target import check_room, check_target, told_leftovers
from easyep.checkpoint.work_folder import WorkFolder, work_folder
from easyep.errors import CheckpointError, OutputError, VerificationError
from easyep.progress import SILENT, Progress

__all__ = ["MAX_SHARD_BYTES", "MTP_MODES", "Plan", "Rewritten", "plan", "rewrite"]


@dataclass(frozen=True)
class Rewritten:
    """What was written.

    Attributes:
        path: the new checkpoint.
        bytes_before: bytes of the source's tensors.
        bytes_after: bytes of the tensors written.
        tensors: how many tensors were written.
        shards: the names of the weight files.
        warnings: what is allowed but should be known.
        dropped_mtp: the MTP layers that were left out.
    """

    path: Path
    bytes_before: int
    bytes_after: int
    tensors: int
    shards: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    dropped_mtp: tuple[int, ...] = ()


def rewrite(
    checkpoint: Checkpoint | str | os.PathLike[str],
    selection: Selection,
    output: str | os.PathLike[str],
    *,
    mtp: str = "score",
    max_shard_size: int = MAX_SHARD_BYTES,
    manifest: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, bytes] | None = None,
    layout: Layout | None = None,
    check: Callable[[Path], None] | None = None,
    progress: Progress = SILENT,
) -> Rewritten:
    """Write the checkpoint with the selected experts only to the new directory `output`.

    Kept experts are renumbered 0 to K-1 in ascending order; every kept tensor is the source's
    byte for byte. Beside the weights come the edited `config.json`, a new index, all other small
    files, and the manifest `easyep.json` with a SHA-256 of every file but itself and the model
    card, which is made to be edited. The source is only read.

    Args:
        checkpoint: the source, or its directory.
        selection: which experts stay.
        output: the new directory; if it exists it must be empty.
        mtp: ``"score"``, ``"follow"`` or ``"drop"`` (see `plan`).
        max_shard_size: bytes of tensors per weight file.
        manifest: further entries of `easyep.json`, which must not contradict its own.
        extra_files: name -> content of further files, such as the model card ``README.md``.
        layout: what `layout.resolve` said of `checkpoint`, where it was asked already.
        check: called with the folder, still under a temporary name, when all is written. What
            it raises passes to the caller, and the folder is removed.
        progress: told of every byte copied.

    Raises:
        EasyEPError: one of the errors of `plan`, or OutputError; nothing is left behind.
    """
    work = plan(checkpoint, selection, mtp=mtp, max_shard_size=max_shard_size, layout=layout)
    extra_files = extra_files or {}
    source = work.checkpoint.identity(selection.model.name)
    document = manifest_document(source, selection, mtp, manifest or {})
    texts = _texts(work)
    _check_extra(extra_files, {*work.side_files, *texts, *(s.name for s in work.shards), MANIFEST})
    small = sum(map(len, extra_files.values())) + sum(map(len, texts.values()))
    needed = work.disk_bytes + small
    target = check_target(output, work.checkpoint.path, needed)
    stamps = resuming.stamps(work.checkpoint)
    with work_folder(target, resuming.purpose(work, stamps)) as place:
        place.keep_only(resuming.intact(work, place, progress))
        check_room(target, needed - sum(each.size for each in place.finished.values()))
        made = {**texts, **extra_files}
        checksums = {
            name: _copy_small(checked_file(work.checkpoint.path, name), place.files / name, target)
            for name in work.side_files
            if name not in made
        }
        for name, data in made.items():
            checksums[name] = _write_small(place.files / name, data, target)
        _write_weights(work, place, target, stamps, progress)
        checksums |= {name: each.sha256 for name, each in place.finished.items()}
        checksums.pop(MODEL_CARD, None)
        document["checksums"] = dict(sorted(checksums.items()))
        _write_small(place.files / MANIFEST, _json(document), target)
        if check is not None:
            _checked(check, place)
    return Rewritten(
        path=target,
        bytes_before=work.bytes_before,
        bytes_after=work.bytes_after,
        tensors=work.tensors,
        shards=tuple(shard.name for shard in work.shards),
        warnings=(*work.warnings, *told_leftovers(target)),
        dropped_mtp=work.layout.mtp_layers if mtp == "drop" else (),
    )


def _write_weights(
    work: Plan, place: WorkFolder, target: Path, stamps: resuming.Stamps, progress: Progress
) -> None:
    """Write the weight files that an earlier run did not finish."""
    source = work.checkpoint
    left = [shard for shard in work.shards if shard.name not in place.finished]
    with progress.task("writing", sum(shard.file_bytes for shard in left), "bytes") as task:
        writer = ShardWriter(left, place.files, source, target, finished=place.note, task=task)
        try:
            writer.write({shard.name: shard.tensors for shard in left})
        finally:
            writer.close()
            changed = resuming.has_changed(source, stamps)
            if changed:
                place.keep_only(set())
    if changed:
        raise CheckpointError(
            f"{source.path} was changed while it was read; start again when nothing writes to it"
        )


def _checked(check: Callable[[Path], None], place: WorkFolder) -> None:
    """Run `check`; what it finds to be wrong is not to be gone on with."""
    try:
        check(place.files)
    except VerificationError:
        place.keep_only(set())
        raise


def _texts(work: Plan) -> dict[str, bytes]:
    """The files that are edited or made rather than copied, by name."""
    source = work.checkpoint
    texts = {CONFIG: edited_text(source.config_text, work.config_edits).encode()}
    for name in QUANTISATION_FILES:
        if name in work.side_files:
            texts[name] = _quantisation_file(work, name)
    if [shard.name for shard in work.shards] != [SINGLE]:
        texts[INDEX] = _json(_index(work))
    return texts


def _index(work: Plan) -> dict[str, Any]:
    old = dict(work.checkpoint.index_metadata or {})
    new = {**old, "total_size": work.bytes_after}
    if "total_parameters" in old:
        before = sum(prod(t.shape) for t in work.checkpoint.tensors.values())
        after = sum(prod(t.shape) for shard in work.shards for t in shard.tensors)
        # Packed formats count more parameters than numbers; then only a share can be said.
        share = old["total_parameters"] if isinstance(old["total_parameters"], int) else before
        new["total_parameters"] = after if share == before else round(share * after / before)
    names = {tensor.name: shard.name for shard in work.shards for tensor in shard.tensors}
    return {"metadata": new, "weight_map": dict(sorted(names.items()))}


def _quantisation_file(work: Plan, name: str) -> bytes:
    text = read_text(work.checkpoint.path, name)
    value = parse_object(text, name)
    rename = renaming(work.architecture, work.layout.router, work.kept_experts)
    edits = quantisation_file_edits(value, rename)
    return edited_text(text, edits).encode()


def _check_extra(extra: Mapping[str, bytes], taken: set[str]) -> None:
    for name in extra:
        if not name or Path(name).name != name:
            raise OutputError(f"the extra file {name!r} must be a plain file name")
        if name in taken:
            raise OutputError(f"the extra file {name!r} is written by the rewriter itself")


def _copy_small(source: Path, path: Path, target: Path) -> str:
    """Copy a file that is no weights, though it may be large; its SHA-256."""
    digest = hashlib.sha256()
    with writing(target):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            for data in _chunks(source):
                digest.update(data)
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return digest.hexdigest()


def _chunks(source: Path) -> Iterator[bytes]:
    try:
        with open(source, "rb") as file:
            while data := file.read(BUFFER_BYTES):
                yield data
    except OSError as error:
        raise CheckpointError(f"{source} cannot be read: {error.strerror or error}") from None


def _write_small(path: Path, data: bytes, target: Path) -> str:
    """Write a new file, a part of `target`; its SHA-256."""
    with writing(target):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
