"""Whether the small files of a pruned checkpoint differ where they must and nowhere else."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from easyep.architectures.spec import Architecture
from easyep.checkpoint.config_edits import (
    QUANTISATION_FILES,
    config_edits,
    edited,
    quantisation_file_edits,
)
from easyep.checkpoint.copying import BUFFER_BYTES
from easyep.checkpoint.files import (
    Checkpoint,
    checked_file,
    parse_object,
    read_bytes,
    read_text,
)
from easyep.checkpoint.json_text import at
from easyep.checkpoint.kept_experts import kept_experts
from easyep.checkpoint.layout import Layout
from easyep.checkpoint.manifest import Manifest
from easyep.checkpoint.renumbering import Rename, renaming
from easyep.checkpoint.side_files import side_files
from easyep.errors import CheckpointError


def config_problems(
    pruned: Checkpoint,
    layout: Layout,
    source: Checkpoint,
    source_layout: Layout,
    architecture: Architecture,
    manifest: Manifest,
) -> Iterator[str]:
    """Where the configuration of `pruned` is not that of `source` with the counts changed."""
    selection = manifest.selection
    flat = {"n_group": 1, "topk_group": 1} if selection.groups == "flatten" else {}
    mtp = {"mtp_layers": 0} if manifest.mtp == "drop" else {}
    expected = replace(source_layout.router, num_experts=selection.keep, **flat, **mtp)
    if layout.router != expected:
        yield f"describes the router {layout.router}, expected {expected}"
    kept = kept_experts(source_layout, selection, manifest.mtp)
    edits = config_edits(
        source.config,
        architecture,
        keep=selection.keep,
        flatten=bool(flat),
        drop_mtp=bool(mtp),
        rename=renaming(architecture, source_layout.router, kept),
    )
    before, after = _leaves(source.config), _leaves(pruned.config)
    for path in sorted(set(before) | set(after)):
        if any(path[: len(edit)] == edit for edit in edits):
            continue
        # Held against each other as text: NaN is not equal to itself, and 1 is equal to true.
        was, now = repr(before.get(path)), repr(after.get(path))
        if was != now or (path in before) != (path in after):
            yield f"{'.'.join(path)} is {now}, in the source {was}"
    for path, value in edits.items():
        if at(pruned.config, path) != value:
            yield f"{'.'.join(path)} is {at(pruned.config, path)!r}, expected {value!r}"


def small_file_problems(pruned: Checkpoint, source: Checkpoint, rename: Rename) -> Iterator[str]:
    """Which files beside the weights are missing or not those of `source`.

    Files with settings of quantisers must be the source's with the experts renumbered.
    """
    for name in side_files(source.path):
        if not (pruned.path / name).is_file():
            yield f"{name} of the source is missing"
            continue
        if name in QUANTISATION_FILES:
            text = read_text(source.path, name)
            value = parse_object(text, name)
            edits = quantisation_file_edits(value, rename)
            same = read_bytes(pruned.path, name) == edited(text, edits)
        else:
            same = _same(source.path, pruned.path, name)
        if not same:
            yield f"{name} differs from the source's"


def _same(source: Path, pruned: Path, name: str) -> bool:
    """Whether two folders hold the same file, which may be large."""
    one, other = checked_file(source, name), checked_file(pruned, name)
    try:
        if one.stat().st_size != other.stat().st_size:
            return False
        with open(one, "rb") as mine, open(other, "rb") as theirs:
            while block := mine.read(BUFFER_BYTES):
                if theirs.read(len(block)) != block:
                    return False
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror or error}") from None
    return True


def _leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    leaves: dict[tuple[str, ...], Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            leaves.update(_leaves(inner, (*path, key)))
        else:
            leaves[(*path, key)] = inner
    return leaves
