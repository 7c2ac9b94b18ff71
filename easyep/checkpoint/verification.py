"""Proof that a pruned checkpoint is what its manifest says, and what its source was."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from easyep.architectures.spec import find_architecture
from easyep.checkpoint.comparison import (
    Counterpart,
    counterparts,
    different_formats,
    different_metadata,
    different_names,
)
from easyep.checkpoint.config_comparison import config_problems, small_file_problems
from easyep.checkpoint.copied import Copied, proofs_of_copied
from easyep.checkpoint.files import CONFIG, INDEX, Checkpoint
from easyep.checkpoint.kept_experts import kept_experts
from easyep.checkpoint.layout import Layout, resolve
from easyep.checkpoint.manifest import Manifest
from easyep.checkpoint.proofreading import Proof, proofread
from easyep.checkpoint.renumbering import renaming
from easyep.checkpoint.side_files import LOST, MANIFEST, MODEL_CARD, unreadable
from easyep.checkpoint.table_comparison import different_tables
from easyep.errors import EasyEPError, ModelNotFoundError, shortened
from easyep.progress import SILENT, Progress

T = TypeVar("T")

# How many problems of one kind are told; the rest is counted.
TOLD = 5


@dataclass(frozen=True)
class Check:
    """One thing that was checked: its name, whether it holds, and what was found."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Verification:
    """The checks that were made, in order; a failed one can leave out those that build on it."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    @property
    def problems(self) -> list[str]:
        """What does not hold, one sentence for each failed check."""
        return [f"{check.name}: {check.detail}" for check in self.checks if not check.ok]

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "checks": [dict(vars(check)) for check in self.checks]}


class _Checks:
    """Runs checks, collects what they find."""

    def __init__(self) -> None:
        self.done: list[Check] = []

    def find(self, name: str, problems: Callable[[], Iterable[str]], fine: str) -> bool:
        """Check that `problems` yields none and raises no EasyEPError; whether that holds."""
        try:
            found = [shortened(each) for each in islice(problems(), TOLD + 1)]
            detail = "; ".join(found[:TOLD]) + ("; and more" if len(found) > TOLD else "")
        except EasyEPError as error:
            found, detail = [str(error)], str(error)
        self.done.append(Check(name, not found, detail or fine))
        return not found

    def make(self, name: str, value: Callable[[], T], fine: str) -> T | None:
        """Check that `value` raises no EasyEPError; what it returns, None where it raises."""
        made: list[T] = []

        def problems() -> Iterable[str]:
            made.append(value())
            return ()

        self.find(name, problems, fine)
        return made[0] if made else None


def verify(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    jobs: int | None = None,
    copied: Mapping[str, Copied] | None = None,
    progress: Progress = SILENT,
) -> Verification:
    """Check the pruned checkpoint in `path`, and compare it with its `source` if that is given.

    Without the source: index, weight files, configuration, router and manifest agree, and every
    file but the manifest and the model card has the checksum of the manifest (hidden files do not
    matter). With it, moreover: every kept tensor is byte for byte the source's, expert by expert
    and row by row; the configuration differs where it must and nowhere else; the small files are
    the same. Every byte is read once.

    Args:
        path: the pruned checkpoint.
        source: the checkpoint that it was made from.
        jobs: files read at a time; None = one for each core.
        copied: weight files whose bytes were compared while this process wrote them. They are not
            read again: what they were made from is held against what they must be made from.
        progress: told of every byte that is read.

    Returns:
        What was checked. A problem of the pruned checkpoint is a failed check, not an error.

    Raises:
        ModelNotFoundError: `path` or `source` is no directory.
        EasyEPError: the source cannot be read.
    """
    if not Path(path).is_dir():
        raise ModelNotFoundError(f"{path} is not a directory with a checkpoint")
    original = Checkpoint.open(source) if source is not None else None
    root = Path(path).resolve()
    checks = _Checks()
    manifest = checks.make("manifest", lambda: Manifest.load(root), "easyep.json is complete")
    pruned = checks.make("files", lambda: Checkpoint.open(root), "configuration and weights agree")
    layout = None
    if pruned is not None:
        checks.find("index", lambda: _index_problems(pruned), "names what is there")
        layout = checks.make(
            "layout",
            lambda: resolve(pruned, find_architecture(pruned.config)),
            "every layer has its router and all its experts",
        )
    if manifest is None:
        return Verification(tuple(checks.done))
    if layout is not None:
        checks.find(
            "selection",
            lambda: _selection_problems(layout, manifest),
            f"{manifest.selection.keep} of {manifest.selection.num_experts} experts per layer",
        )
    checks.find(
        "surplus files", lambda: _surplus_files(root, manifest.checksums), "no unknown files"
    )
    found: list[Counterpart] | None = None
    if pruned is not None and layout is not None and original is not None:
        found = _compare(checks, pruned, layout, original, manifest)
    copied = copied or {}
    names = manifest.checksums.keys() | (pruned.shards.keys() if pruned is not None else ())
    proofs = proofread(
        root,
        names - copied.keys(),
        [each for each in found or () if each.pruned.shard not in copied],
        original,
        limit=TOLD + 1,
        jobs=jobs,
        progress=progress,
    )
    proofs |= proofs_of_copied(copied, found or (), pruned, original, limit=TOLD + 1)
    checks.find(
        "checksums",
        lambda: _checksum_problems(manifest.checksums, proofs),
        f"{len(manifest.checksums)} files are as they were written",
    )
    if found is not None:
        checks.find(
            "tensor bytes",
            lambda: (words for name in sorted(proofs) for words in proofs[name].differences),
            f"{len(found)} tensors are byte for byte those of the source",
        )
    return Verification(tuple(checks.done))


def _index_problems(checkpoint: Checkpoint) -> Iterable[str]:
    stated = (checkpoint.index_metadata or {}).get("total_size", checkpoint.nbytes)
    if stated != checkpoint.nbytes:
        yield f"{INDEX} states total_size {stated}, the tensors have {checkpoint.nbytes} bytes"
    for file in sorted(checkpoint.path.iterdir()):
        if file.name.endswith(".safetensors") and file.name not in checkpoint.shards:
            yield f"{file.name} is a weight file that the index does not name"


def _checksum_problems(checksums: Mapping[str, str], proofs: Mapping[str, Proof]) -> Iterable[str]:
    for name in sorted(checksums):
        if proofs[name].unreadable:
            yield proofs[name].unreadable
        elif proofs[name].sha256 != checksums[name]:
            yield f"{name} is not what was written (SHA-256 differs)"


def _surplus_files(root: Path, checksums: Mapping[str, str]) -> Iterable[str]:
    """Files that the manifest does not vouch for; they could change what a program loads.

    Hidden files and folders may be there: git and the hub's client put them beside a model.
    """
    for folder, folders, files in os.walk(root, onerror=unreadable):
        hidden = [name for name in folders if name.startswith(".")]
        # `walk` enters no links to folders, so such a link is judged like a file.
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = sorted(set(folders) - {*hidden, *links, LOST})
        for file in sorted({*files, *links} - set(hidden)):
            name = (Path(folder) / file).relative_to(root).as_posix()
            if not file.startswith(".") and name not in {*checksums, MANIFEST, MODEL_CARD}:
                yield f"{name} is not in the manifest: it was not written by easyep"


def _selection_problems(layout: Layout, manifest: Manifest) -> Iterable[str]:
    selection = manifest.selection
    if layout.router.num_experts != selection.keep:
        yield (
            f"{CONFIG} states {layout.router.num_experts} experts, the selection keeps "
            f"{selection.keep}"
        )
    if selection.groups == "flatten" and layout.router.n_group != 1:
        yield f"{CONFIG} states {layout.router.n_group} groups, the selection flattens them"
    missing = set(layout.moe_layers) ^ {
        layer for layer in selection.layers if layer < layout.router.num_layers
    }
    if missing:
        yield f"layer {min(missing)} is in only one of the selection and the checkpoint"
    if manifest.mtp == "drop" and (layout.mtp_depth or layout.router.mtp_layers):
        yield "MTP layers were dropped, but the checkpoint or its configuration has some"
    if manifest.mtp != "drop" and layout.mtp_depth > layout.router.mtp_layers:
        yield f"{CONFIG} states {layout.router.mtp_layers} MTP layers, found {layout.mtp_depth}"


def _compare(
    checks: _Checks,
    pruned: Checkpoint,
    layout: Layout,
    source: Checkpoint,
    manifest: Manifest,
) -> list[Counterpart] | None:
    """The checks that need the source, but for the bytes of tensors.

    Returns:
        What the tensors must equal; None where the names or formats do not allow to say.

    Raises:
        EasyEPError: the source itself cannot be explained.
    """
    architecture = find_architecture(source.config)
    source_layout = resolve(source, architecture)

    def source_problems() -> Iterable[str]:
        if not source.identity("").same_model(manifest.source):
            yield f"{source.path} is not the checkpoint that {MANIFEST} names as the source"

    checks.find("source", source_problems, f"it is {manifest.source.name!r}")
    kept = checks.make(
        "selection of the source",
        lambda: kept_experts(source_layout, manifest.selection, manifest.mtp),
        "its router can follow it",
    )
    if kept is None:
        return None
    checks.find(
        "configuration",
        lambda: config_problems(pruned, layout, source, source_layout, architecture, manifest),
        "differs from the source's in the counts only",
    )
    checks.find(
        "small files",
        lambda: small_file_problems(
            pruned, source, renaming(architecture, source_layout.router, kept)
        ),
        "are those of the source",
    )
    checks.find("metadata", lambda: different_metadata(pruned, source), "is the source's")
    drop = manifest.mtp == "drop"
    names_agree = checks.find(
        "tensor names",
        lambda: different_names(layout, source_layout, kept, drop_mtp=drop),
        "are those of the source, renumbered",
    )
    if not names_agree or layout.router.num_experts != manifest.selection.keep:
        return None
    if any(layer.tables for layer in layout.layers.values()):
        checks.find(
            "tables of experts",
            lambda: different_tables(pruned, layout, source, source_layout, kept),
            "every kept expert is where it was",
        )
    found = list(counterparts(pruned, layout, source, source_layout, kept))
    if not checks.find("tensor formats", lambda: different_formats(found), "are the source's"):
        return None
    return found
