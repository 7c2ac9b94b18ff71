"""A checkpoint directory, opened and checked without reading a weight.

Which links are followed: the directory may be reached through links, and a file in it may be a
link to another place *inside* the directory. A snapshot of the Hugging Face cache
(``<repo>/snapshots/<revision>``) may also link into ``<repo>/blobs``, where that cache keeps the
files. Any other link leads out of the directory and is refused.
"""

import hashlib
import json
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from easyep import strict_json
from easyep.artifacts.model_identity import ModelIdentity
from easyep.checkpoint.headers import MAX_HEADER_BYTES, Shard, Tensor, read_shard
from easyep.checkpoint.reading_ahead import ask_for
from easyep.errors import CheckpointError, ModelNotFoundError

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# So much of each weight file is asked for at once; most headers are smaller.
HEADER_BYTES = 256 * 1024

# How much of each weight file the identity of a checkpoint reads.
SAMPLES = 16
SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class Checkpoint:
    """A directory with `config.json` and safetensors files that agree with each other.

    Attributes:
        path: the directory, links resolved.
        config: the parsed `config.json`.
        config_text: its text as it lies on disk.
        tensors: every tensor by name.
        shards: the weight files by name, in the order of their names.
        index_metadata: `metadata` of the index; None where the checkpoint is a single file.
    """

    path: Path
    config: Mapping[str, Any]
    config_text: str
    tensors: Mapping[str, Tensor]
    shards: Mapping[str, Shard]
    index_metadata: Mapping[str, Any] | None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Checkpoint":
        """Read the configuration, the index and all headers of a local directory.

        Raises:
            ModelNotFoundError: there is no such directory, or no checkpoint in it.
            CheckpointError: the files are malformed or contradict each other; the message names
                the file and the tensor.
        """
        if not Path(path).is_dir():
            raise ModelNotFoundError(f"{path} is not a directory with a checkpoint")
        root = Path(path).resolve()
        _refuse_other_kinds(root)
        config_text = read_text(root, CONFIG)
        config = parse_object(config_text, CONFIG)
        names, weight_map, index_metadata = _weight_files(root)
        paths = {name: checked_file(root, name) for name in sorted(names)}
        for each in paths.values():
            ask_for(each, [(0, HEADER_BYTES)])
        shards = {name: read_shard(path, name) for name, path in paths.items()}
        tensors: dict[str, Tensor] = {}
        for shard in shards.values():
            for tensor in shard.tensors:
                if tensor.name in tensors:
                    other = tensors[tensor.name].shard
                    raise CheckpointError(
                        f"tensor {tensor.name!r} is in {other} and again in {shard.name}"
                    )
                tensors[tensor.name] = tensor
        if weight_map is not None:
            _check_index(weight_map, tensors)
        return cls(root, config, config_text, tensors, shards, index_metadata)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def identity(self, name: str) -> ModelIdentity:
        """What tells this checkpoint from others; `name` is what the user called it.

        The hash of the weights covers, for each weight file in the order of their names, the
        size of its data and `SAMPLES` blocks of `SAMPLE_BYTES` of it, evenly spaced, the first
        and the last included; all of the data where that is less. So the same weights cut into
        other files are another model to it. The hashes are computed once.

        Raises:
            CheckpointError: a weight file cannot be read.
        """
        return replace(self._identity, name=name)

    @cached_property
    def _identity(self) -> ModelIdentity:
        lines = sorted(
            json.dumps([tensor.name, tensor.dtype, tensor.shape])
            for tensor in self.tensors.values()
        )
        return ModelIdentity(
            name="",
            model_type=str(self.config.get("model_type", "")),
            config_sha256=hashlib.sha256(self.config_text.encode()).hexdigest(),
            tensors_sha256=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            weights_sha256=_sampled(self.path, self.shards.values()),
        )


def checked_file(root: Path, name: str) -> Path:
    """The regular file `name` of the checkpoint directory `root`.

    Raises:
        CheckpointError: it is missing, no regular file, or lies outside of the directory (see
            the module's rule about links).
    """
    parts = Path(name).parts
    if not name or "\0" in name or Path(name).is_absolute() or ".." in parts or "\\" in name:
        raise CheckpointError(f"{name!r} is not the name of a file in {root}")
    path = root / name
    try:
        target = path.resolve(strict=True)
        mode = target.stat().st_mode
    except FileNotFoundError:
        if not root.is_dir():
            raise CheckpointError(f"the directory {root} does not exist") from None
        raise CheckpointError(f"{root} has no file {name}; the checkpoint is incomplete") from None
    # RuntimeError: links that go round in circles; UnicodeError: half a character.
    except (OSError, RuntimeError, UnicodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    place = root.resolve()  # as the target is, wherever one was when the name was given
    allowed = [place]
    if place.parent.name == "snapshots":
        allowed.append(place.parent.parent / "blobs")
    if not any(target.is_relative_to(folder) for folder in allowed):
        raise CheckpointError(
            f"{name} is a link to {target}, outside of {root}; such links are not followed: "
            "give the directory that holds the files themselves"
        )
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is not a regular file")
    return target


def read_bytes(root: Path, name: str) -> bytes:
    """The content of a small file of a checkpoint; CheckpointError where it cannot be read."""
    try:
        return checked_file(root, name).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror or error}") from None


def read_text(root: Path, name: str) -> str:
    """The text of a file of a checkpoint; CheckpointError where it is none."""
    size = checked_file(root, name).stat().st_size
    if size > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{name} has {size} bytes, more than any such file ({MAX_HEADER_BYTES})"
        )
    try:
        return read_bytes(root, name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{name} is not UTF-8 text: {error}") from None


def parse_object(text: str, name: str) -> dict[str, Any]:
    """The JSON object in `text`; CheckpointError names the file `name` where it is none."""
    try:
        value = strict_json.parse(text)
        strict_json.check_nesting(value)
    except ValueError as error:
        raise CheckpointError(f"{name} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} holds {type(value).__name__}, not a JSON object")
    return value


def _sampled(root: Path, shards: Collection[Shard]) -> str:
    """The hash of samples of the weight files, as `Checkpoint.identity` describes them."""
    digest = hashlib.sha256()
    samples = {shard.name: _samples(shard) for shard in shards}
    for name, places in samples.items():
        ask_for(checked_file(root, name), places)
    for shard in shards:
        digest.update(_data_bytes(shard).to_bytes(8, "little"))
        try:
            with open(checked_file(root, shard.name), "rb", buffering=0) as file:
                for begin, length in samples[shard.name]:
                    file.seek(begin)
                    block = file.read(length)
                    if len(block) != length:
                        raise CheckpointError(f"{shard.name} became shorter while it was read")
                    digest.update(block)
        except OSError as error:
            raise CheckpointError(
                f"{shard.name} cannot be read: {error.strerror or error}"
            ) from None
    return digest.hexdigest()


def _samples(shard: Shard) -> list[tuple[int, int]]:
    """Where the samples of one weight file lie: (begin, bytes)."""
    size = _data_bytes(shard)
    first, last = shard.size - size, size - SAMPLE_BYTES
    if size <= SAMPLES * SAMPLE_BYTES:
        return [(first, size)]
    return [(first + last * i // (SAMPLES - 1), SAMPLE_BYTES) for i in range(SAMPLES)]


def _data_bytes(shard: Shard) -> int:
    """Bytes behind the header."""
    return sum(tensor.nbytes for tensor in shard.tensors)


def _refuse_other_kinds(root: Path) -> None:
    """Raises ModelNotFoundError for an adapter, or a model in files that easyep does not read."""
    if os.path.lexists(root / INDEX) or os.path.lexists(root / SINGLE):
        return
    if os.path.lexists(root / "adapter_config.json"):
        raise ModelNotFoundError(
            f"{root} holds an adapter, not a model; merge it into its base model (PEFT's "
            "merge_and_unload), save that and give its directory"
        )
    if any(root.glob("*.gguf")):
        raise ModelNotFoundError(
            f"{root} holds GGUF files, which easyep does not read; prune the safetensors model "
            "that they were converted from, then convert what comes out"
        )


def _weight_files(
    root: Path,
) -> tuple[set[str], dict[str, str] | None, Mapping[str, Any] | None]:
    """Names of the weight files, and what the index says, if there is one."""
    single = os.path.lexists(root / SINGLE)
    if not os.path.lexists(root / INDEX):
        if single:
            return {SINGLE}, None, None
        raise ModelNotFoundError(
            f"{root} has neither {INDEX} nor {SINGLE}; easyep reads safetensors checkpoints "
            "(a checkpoint in another format can be converted with transformers' save_pretrained)"
        )
    index = parse_object(read_text(root, INDEX), INDEX)
    weight_map, metadata = index.get("weight_map"), index.get("metadata", {})
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{INDEX}: weight_map must be an object from tensors to files")
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{INDEX}: metadata must be an object")
    files: set[str] = set()
    for tensor, name in weight_map.items():
        if isinstance(name, str) and name in files:
            continue
        if not _is_plain(name) or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{INDEX}: tensor {tensor[:100]!r} is said to be in {repr(name)[:100]}, "
                "which is not the plain name of a .safetensors file"
            )
        files.add(name)
    if single and files != {SINGLE}:
        raise CheckpointError(
            f"{root} has both {SINGLE} and an index of other files; programs differ in which "
            "they load, so remove the one that is stale"
        )
    return files, weight_map, metadata


def _is_plain(name: Any) -> bool:
    """Whether `name` is one that a file in a directory can have."""
    if not isinstance(name, str) or Path(name).name != name or "\\" in name or "\0" in name:
        return False
    return len(name.encode(errors="replace")) <= 255 and name.isprintable()


def _check_index(weight_map: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    for name, file in weight_map.items():
        if name not in tensors or tensors[name].shard != file:
            raise CheckpointError(
                f"{INDEX} says that tensor {name[:100]!r} is in {file}; it is not"
            )
    for name, tensor in tensors.items():
        if name not in weight_map:
            raise CheckpointError(f"{INDEX} does not name tensor {name!r} of {tensor.shard}")
