"""Selection and layout -> the exact files to be written, before any weight is read."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from easyep.architectures.spec import Architecture, find_architecture
from easyep.artifacts.selection import Selection
from easyep.checkpoint.config_edits import config_edits
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.kept_experts import kept_experts
from easyep.checkpoint.layout import Layout, resolve
from easyep.checkpoint.output_files import OutputShard, shards
from easyep.checkpoint.output_units import units_of
from easyep.checkpoint.renumbering import renaming
from easyep.checkpoint.side_files import side_files
from easyep.checkpoint.target import check_target
from easyep.errors import CheckpointError

MAX_SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True)
class Plan:
    """All that a rewrite will do.

    Attributes:
        checkpoint: the source.
        architecture: its family.
        layout: whose its tensors are.
        selection: which experts stay.
        mtp: ``"score"``, ``"follow"`` or ``"drop"``.
        kept_experts: for every MoE layer that is written, the ids of its experts in order.
        config_edits: path in `config.json` -> new value.
        side_files: names of the other files that come along.
        shards: the weight files.
        warnings: what is allowed but should be known.
    """

    checkpoint: Checkpoint
    architecture: Architecture
    layout: Layout
    selection: Selection
    mtp: str
    kept_experts: Mapping[int, tuple[int, ...]]
    config_edits: Mapping[tuple[str, ...], Any]
    side_files: tuple[str, ...]
    shards: tuple[OutputShard, ...]
    warnings: tuple[str, ...]

    @property
    def num_experts(self) -> int:
        """Routed experts per layer before."""
        return self.selection.num_experts

    @property
    def keep(self) -> int:
        """Routed experts per layer after."""
        return self.selection.keep

    @property
    def bytes_before(self) -> int:
        """Bytes of the source's tensors."""
        return self.checkpoint.nbytes

    @property
    def bytes_after(self) -> int:
        """Bytes of the tensors to be written."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def tensors(self) -> int:
        """How many tensors will be written."""
        return sum(len(shard.tensors) for shard in self.shards)

    @property
    def disk_bytes(self) -> int:
        """Bytes that the new directory will take, but for the manifest and the model card."""
        root = self.checkpoint.path
        small = sum((root / name).stat().st_size for name in self.side_files)
        return small + sum(shard.file_bytes for shard in self.shards)


def plan(
    checkpoint: Checkpoint | str | os.PathLike[str],
    selection: Selection,
    *,
    mtp: str = "score",
    max_shard_size: int = MAX_SHARD_BYTES,
    layout: Layout | None = None,
    output: str | os.PathLike[str] | None = None,
) -> Plan:
    """Check everything that can be checked without reading a weight, and plan the rewrite.

    Args:
        checkpoint: the source, or its directory.
        selection: which experts stay.
        mtp: what happens to MTP layers: ``"score"`` uses their own entries in the selection,
            ``"follow"`` the entry of the last MoE layer, ``"drop"`` leaves them out.
        max_shard_size: bytes of tensors per output file; an expert is never split over two.
        layout: what `resolve` said of `checkpoint`, where it was asked already.
        output: where it is to be written; checked too if given.

    Raises:
        UnsupportedModelError, CheckpointError, LayoutError, SelectionError, OutputError: what is
            wrong, and how to go on.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint.open(checkpoint)
    architecture = find_architecture(checkpoint.config)
    if layout is None:
        layout = resolve(checkpoint, architecture)
    kept = kept_experts(layout, selection, mtp)
    _check_mtp_count(layout, mtp)
    edits = config_edits(
        checkpoint.config,
        architecture,
        keep=selection.keep,
        flatten=selection.groups == "flatten",
        drop_mtp=mtp == "drop",
        rename=renaming(architecture, layout.router, kept),
    )
    units = list(units_of(checkpoint, layout, kept, drop_mtp=mtp == "drop"))
    result = Plan(
        checkpoint=checkpoint,
        architecture=architecture,
        layout=layout,
        selection=selection,
        mtp=mtp,
        kept_experts=kept,
        config_edits=edits,
        side_files=tuple(side_files(checkpoint.path)),
        shards=tuple(shards(units, checkpoint, max_shard_size)),
        warnings=tuple(_warnings(checkpoint, selection)),
    )
    if output is not None:
        check_target(output, checkpoint.path, result.disk_bytes)
    return result


def _check_mtp_count(layout: Layout, mtp: str) -> None:
    if mtp != "drop" and layout.mtp_depth > layout.router.mtp_layers:
        raise CheckpointError(
            f"the checkpoint holds {layout.mtp_depth} MTP layers behind its "
            f"{layout.router.num_layers} layers, config.json declares {layout.router.mtp_layers}; "
            "correct the configuration, or choose mtp 'drop'"
        )


def _warnings(checkpoint: Checkpoint, selection: Selection) -> Iterator[str]:
    if not checkpoint.identity("").same_model(selection.model):
        yield (
            f"the selection was made for {selection.model.name!r}, whose configuration, tensors or "
            "weights differ from this checkpoint's; the expert ids fit, but they should be of one "
            "model"
        )
