"""Whether the configuration of a pruned checkpoint differs where it must and nowhere else."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from easyep.architectures.spec import Architecture
from easyep.checkpoint.config_edits import config_edits
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.json_text import at
from easyep.checkpoint.kept_experts import kept_experts
from easyep.checkpoint.layout import Layout
from easyep.checkpoint.manifest import Manifest
from easyep.checkpoint.renumbering import renaming


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
        if before.get(path) != after.get(path) or (path in before) != (path in after):
            yield f"{'.'.join(path)} is {after.get(path)!r}, in the source {before.get(path)!r}"
    for path, value in edits.items():
        if at(pruned.config, path) != value:
            yield f"{'.'.join(path)} is {at(pruned.config, path)!r}, expected {value!r}"


def _leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    leaves: dict[tuple[str, ...], Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            leaves.update(_leaves(inner, (*path, key)))
        else:
            leaves[(*path, key)] = inner
    return leaves
