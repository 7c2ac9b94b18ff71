"""The files of a pruned checkpoint beside its weights: copied, edited or made."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

from easyep.atomic import writing
from easyep.checkpoint.config_edits import (
    QUANTISATION_FILES,
    edited,
    quantisation_file_edits,
)
from easyep.checkpoint.copying import BUFFER_BYTES
from easyep.checkpoint.files import CONFIG, INDEX, SINGLE, parse_object, read_text
from easyep.checkpoint.planning import Plan
from easyep.checkpoint.renumbering import renaming
from easyep.errors import CheckpointError, OutputError


def texts(work: Plan) -> dict[str, bytes]:
    """The files that are edited or made rather than copied, by name."""
    source = work.checkpoint
    found = {CONFIG: edited(source.config_text, work.config_edits)}
    for name in QUANTISATION_FILES:
        if name in work.side_files:
            found[name] = _quantisation_file(work, name)
    if [shard.name for shard in work.shards] != [SINGLE]:
        found[INDEX] = as_json(_index(work))
    return found


def _index(work: Plan) -> dict[str, Any]:
    old = dict(work.checkpoint.index_metadata or {})
    new = {**old, "total_size": work.bytes_after}
    if "total_parameters" in old:
        before = sum(prod(t.shape) for t in work.checkpoint.tensors.values())
        after = sum(prod(t.shape) for shard in work.shards for t in shard.tensors)
        # Packed formats count more parameters than numbers; then only a share can be said.
        share = old["total_parameters"] if isinstance(old["total_parameters"], int) else before
        new["total_parameters"] = round(Fraction(share * after, before)) if before else after
    names = {tensor.name: shard.name for shard in work.shards for tensor in shard.tensors}
    return {"metadata": new, "weight_map": dict(sorted(names.items()))}


def _quantisation_file(work: Plan, name: str) -> bytes:
    text = read_text(work.checkpoint.path, name)
    value = parse_object(text, name)
    rename = renaming(work.architecture, work.layout.router, work.kept_experts)
    edits = quantisation_file_edits(value, rename)
    return edited(text, edits)


def check_extra(extra: Mapping[str, bytes], taken: set[str]) -> None:
    """Raises OutputError where a further file has no plain name, or one of the `taken`."""
    for name in extra:
        if name in ("", "..") or Path(name).name != name:
            raise OutputError(f"the extra file {name!r} must be a plain file name")
        if name in taken:
            raise OutputError(f"the extra file {name!r} is written by the rewriter itself")


def copy_small(source: Path, path: Path, target: Path) -> str:
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


def write_small(path: Path, data: bytes, target: Path) -> str:
    """Write a new file, a part of `target`; its SHA-256."""
    with writing(target):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def as_json(value: Mapping[str, Any]) -> bytes:
    """A JSON file of `value`."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # half a character stays escaped
