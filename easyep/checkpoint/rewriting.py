"""Writing the pruned checkpoint: byte ranges copied, nothing re-encoded, all of it or nothing."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyep.artifacts.selection import Selection
from easyep.checkpoint import resuming
from easyep.checkpoint.copied import Copied
from easyep.checkpoint.files import Checkpoint, checked_file
from easyep.checkpoint.kept_experts import MTP_MODES
from easyep.checkpoint.layerwise import Layerwise
from easyep.checkpoint.layout import Layout
from easyep.checkpoint.manifest import manifest_document
from easyep.checkpoint.output_files import OutputShard, OutputTensor
from easyep.checkpoint.planning import MAX_SHARD_BYTES, Plan, plan
from easyep.checkpoint.shard_writing import ShardWriter
from easyep.checkpoint.side_files import MANIFEST, MODEL_CARD
from easyep.checkpoint.small_writing import as_json, check_extra, copy_small, texts, write_small
from easyep.checkpoint.target import check_room, check_target, told_leftovers
from easyep.checkpoint.work_folder import Finished, WorkFolder, work_folder
from easyep.errors import CheckpointError, VerificationError
from easyep.progress import SILENT, Progress

__all__ = [
    "MAX_SHARD_BYTES",
    "MTP_MODES",
    "Check",
    "Plan",
    "Rewriting",
    "Rewritten",
    "begun",
    "plan",
    "rewrite",
]

# Is given the folder, still under a temporary name, and what is known of its weight files.
Check = Callable[[Path, Mapping[str, Copied]], None]


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
    check: Check | None = None,
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
        check: called when all is written, before it appears. What it raises passes to the
            caller, and what was written is removed.
        progress: told of every byte copied.

    Raises:
        EasyEPError: one of the errors of `plan`, or OutputError; nothing is left behind.
    """
    work = plan(checkpoint, selection, mtp=mtp, max_shard_size=max_shard_size, layout=layout)
    small = sum(map(len, (extra_files or {}).values()))
    with begun(work, output, small=small, progress=progress) as rewriting:
        return rewriting.finish(
            work, manifest=manifest, extra_files=extra_files, check=check, progress=progress
        )


@contextmanager
def begun(
    work: Plan,
    output: str | os.PathLike[str],
    *,
    decided_by: str | None = None,
    small: int = 0,
    progress: Progress = SILENT,
) -> Iterator["Rewriting"]:
    """A rewrite to `output`, which is there at the end if it was finished; else nothing is.

    Args:
        work: the plan; with stand-ins for the kept experts where they are not known yet.
        output: the new directory; if it exists it must be empty.
        decided_by: with stand-ins: all that decides which experts will be kept. A rewrite that
            is cut short is gone on with by one that is decided by the same.
        small: bytes of files that the plan does not know.
        progress: told of files of an earlier run that are checked.

    Raises:
        OutputError: it cannot be written.
    """
    needed = work.disk_bytes + small + sum(map(len, texts(work).values()))
    target = check_target(output, work.checkpoint.path, needed)
    stamps = resuming.stamps(work.checkpoint)
    with work_folder(target, resuming.purpose(work, stamps, decided_by)) as place:
        place.keep_only(resuming.intact(work, place, progress))
        check_room(target, needed - sum(each.size for each in place.finished.values()))
        rewriting = Rewriting(work, place, target, stamps, early=decided_by is not None)
        try:
            yield rewriting
        finally:
            rewriting.close()


class Rewriting:
    """A rewrite under way; made by `begun`.

    Args:
        work: the plan that it began with.
        place: where it is written.
        target: what that is to become.
        stamps: of the source when it began.
        early: whether layers are written before all of them are known.
    """

    def __init__(
        self, work: Plan, place: WorkFolder, target: Path, stamps: resuming.Stamps, *, early: bool
    ) -> None:
        self._work = work
        self._place = place
        self._target = target
        self._stamps = stamps
        self._early = early
        self._layers = Layerwise(work)
        self._begin(work, work.shards)

    def layer(self, index: int, kept: tuple[int, ...]) -> None:
        """Write what can be written now that the experts of one more layer are known.

        Args:
            index: the MoE layer; layers come in order, none has to.
            kept: the experts that stay in it, ascending.

        Raises:
            CheckpointError: the source is gone or has changed.
            OutputError: the target cannot be written.
        """
        ready = self._layers.layer(index, kept)
        self._write({name: tensors for name, tensors in ready.items() if name in self._written})

    def finish(
        self,
        work: Plan,
        *,
        manifest: Mapping[str, Any] | None = None,
        extra_files: Mapping[str, bytes] | None = None,
        check: Check | None = None,
        progress: Progress = SILENT,
    ) -> Rewritten:
        """Write all that is not written yet.

        Args:
            work: the plan, all experts known. What was written is kept where it is as planned.
            manifest, extra_files, check, progress: as in `rewrite`.

        Raises:
            CheckpointError, OutputError: it cannot be written.
        """
        selection, extra_files = work.selection, extra_files or {}
        source = work.checkpoint.identity(selection.model.name)
        document = manifest_document(source, selection, work.mtp, manifest or {})
        edited = texts(work)
        taken = {*work.side_files, *edited, *(shard.name for shard in work.shards), MANIFEST}
        check_extra(extra_files, taken)
        self._drop_wrong(work)
        files, made = self._place.files, {**edited, **extra_files}
        checksums = {
            name: copy_small(checked_file(work.checkpoint.path, name), files / name, self._target)
            for name in work.side_files
            if name not in made
        }
        for name, data in made.items():
            checksums[name] = write_small(files / name, data, self._target)
        left = [shard for shard in work.shards if shard.name in self._written]
        rest = {shard.name: list(shard.tensors[len(self._written[shard.name]) :]) for shard in left}
        self._write({name: tensors for name, tensors in rest.items() if tensors}, progress)
        checksums |= {name: each.sha256 for name, each in self._place.finished.items()}
        checksums.pop(MODEL_CARD, None)
        document["checksums"] = dict(sorted(checksums.items()))
        write_small(files / MANIFEST, as_json(document), self._target)
        if check is not None:
            self._check(check, work)
        return Rewritten(
            path=self._target,
            bytes_before=work.bytes_before,
            bytes_after=work.bytes_after,
            tensors=work.tensors,
            shards=tuple(shard.name for shard in work.shards),
            warnings=(*work.warnings, *told_leftovers(self._target, own=self._place.path)),
            dropped_mtp=work.layout.mtp_layers if work.mtp == "drop" else (),
        )

    def close(self) -> None:
        """Close the files."""
        self._writer.close()

    def _begin(self, work: Plan, shards: tuple[OutputShard, ...]) -> None:
        """Make those of `shards` that are not finished."""
        left = [shard for shard in shards if shard.name not in self._place.finished]
        self._shards = {shard.name: shard for shard in left}
        self._written: dict[str, list[OutputTensor]] = {shard.name: [] for shard in left}
        self._writer = ShardWriter(
            left,
            self._place.files,
            work.checkpoint,
            self._target,
            finished=self._note,
            read_back=self._early,
        )

    def _write(
        self, tensors: Mapping[str, list[OutputTensor]], progress: Progress = SILENT
    ) -> None:
        total = 0
        for name, some in tensors.items():
            total += 0 if self._written[name] else len(self._shards[name].header)
            total += sum(tensor.nbytes for tensor in some)
            self._written[name] += some
        try:
            with progress.task("writing", total, "bytes") as task:
                self._writer.write(tensors, task)
        finally:
            changed = resuming.has_changed(self._work.checkpoint, self._stamps)
            if changed:
                self._place.keep_only(set())
        if changed:
            raise CheckpointError(
                f"{self._work.checkpoint.path} was changed while it was read; start again when "
                "nothing writes to it"
            )

    def _note(self, name: str, size: int, sha256: str) -> None:
        plan = resuming.digest(self._shards[name], self._written[name])
        self._place.note(name, Finished(size, sha256, plan))

    def _drop_wrong(self, work: Plan) -> None:
        """Begin anew with files that are not as they are planned now."""
        right = {shard.name for shard in work.shards if self._is_right(shard)}
        if len(right) < len(work.shards):
            self._writer.close()
            self._place.keep_only(right & self._place.finished.keys())
            self._begin(work, work.shards)

    def _is_right(self, shard: OutputShard) -> bool:
        """Whether what was written of a file is what is planned now."""
        if shard.name in self._place.finished:
            return self._place.finished[shard.name].plan == resuming.digest(shard, shard.tensors)
        if shard.name not in self._written:
            return False
        written = self._written[shard.name]
        before = resuming.digest(self._shards[shard.name], written)
        return before == resuming.digest(shard, shard.tensors[: len(written)])

    def _check(self, check: Check, work: Plan) -> None:
        """Run `check`; what it finds to be wrong is not to be gone on with."""
        copied = {
            shard.name: Copied(self._place.finished[shard.name].sha256, shard.tensors)
            for shard in work.shards
            if self._early
        }
        try:
            check(self._place.files, copied)
        except VerificationError:
            self._place.keep_only(set())
            raise
