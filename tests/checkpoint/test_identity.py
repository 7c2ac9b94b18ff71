import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from easyep.artifacts.model_identity import ModelIdentity
from easyep.checkpoint import files
from easyep.checkpoint.files import Checkpoint
from easyep.errors import ArtifactError, CheckpointError
from tests.checkpoint.raw_files import tensor, write_checkpoint

CONFIG = {"model_type": "mixtral", "num_local_experts": 2}
A, B = {"a": tensor("F32", 2)}, {"b": tensor("BF16", 2, 2, seed=5)}
SHARD = "model-00001-of-00001.safetensors"


def identity(path: Path, name: str = "one") -> ModelIdentity:
    return Checkpoint.open(path).identity(name)


def test_names_do_not_matter(tmp_path: Path) -> None:
    first = identity(write_checkpoint(tmp_path / "m", CONFIG, A, B))
    assert (first.name, first.model_type) == ("one", "mixtral")
    shutil.copytree(tmp_path / "m", tmp_path / "copy")
    second = identity(tmp_path / "copy", "two")
    assert second.name == "two"
    assert first.same_model(second)


@pytest.mark.parametrize(
    ("config", "shards", "differ"),
    [
        (CONFIG, ({"a": tensor("F32", 1, 2)}, B), {"tensors_sha256"}),
        (CONFIG, ({"a": tensor("I32", 2)}, B), {"tensors_sha256"}),
        (CONFIG, ({"c": tensor("F32", 2)}, B), {"tensors_sha256"}),
        ({**CONFIG, "x": 1}, (A, B), {"config_sha256"}),
        (CONFIG, ({"a": tensor("F32", 2, seed=1)}, B), {"weights_sha256"}),
        (CONFIG, (B, A), {"weights_sha256"}),  # other files: another model, says the sample
        (CONFIG, ({**A, **B},), {"weights_sha256"}),
    ],
)
def test_config_tensors_and_weights_do(
    tmp_path: Path, config: dict[str, Any], shards: tuple[Any, ...], differ: set[str]
) -> None:
    first = identity(write_checkpoint(tmp_path / "m", CONFIG, A, B))
    other = identity(write_checkpoint(tmp_path / "other", config, *shards))
    fields = ("config_sha256", "tensors_sha256", "weights_sha256")
    assert {f for f in fields if getattr(first, f) != getattr(other, f)} == differ
    assert not first.same_model(other)


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("size", [1, 4096, 16 * 4096])
def test_small_data_is_hashed_as_a_whole(tmp_path: Path, size: int) -> None:
    path = write_checkpoint(tmp_path / "m", CONFIG, {"a": tensor("U8", size)})
    first = identity(path)
    begin = Checkpoint.open(path).tensors["a"].begin
    for at in {0, size // 2, size // 3, size - 1}:
        flip(path / SHARD, begin + at)
        assert not first.same_model(identity(path)), at
        flip(path / SHARD, begin + at)
    assert first.same_model(identity(path))


def test_large_data_is_sampled_from_first_to_last(tmp_path: Path) -> None:
    size = 1_000_003
    path = write_checkpoint(tmp_path / "m", CONFIG, {"a": tensor("U8", size)})
    first = identity(path)
    begin = Checkpoint.open(path).tensors["a"].begin
    step = (size - 4096) / 15
    for at in (0, 4095, int(step * 7) + 5, size - 4096, size - 1):
        flip(path / SHARD, begin + at)
        assert not first.same_model(identity(path)), at
        flip(path / SHARD, begin + at)
    flip(path / SHARD, begin + 5000)  # between two samples: no checksum, as documented
    assert first.same_model(identity(path))


def test_a_longer_header_is_no_other_model(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "m", CONFIG, A)
    first = identity(path)
    content = (path / SHARD).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length] + b" " * 8
    (path / SHARD).write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    assert first.same_model(identity(path))


def test_the_hashes_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "m", CONFIG, A, B))
    first = checkpoint.identity("one")

    def again(*_: object) -> str:
        raise AssertionError

    monkeypatch.setattr(files, "_sampled", again)
    assert checkpoint.identity("two").same_model(first)


def test_weights_that_went_away(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "m", CONFIG, A)
    checkpoint = Checkpoint.open(path)
    os.truncate(path / SHARD, (path / SHARD).stat().st_size - 1)
    with pytest.raises(CheckpointError, match="became shorter"):
        checkpoint.identity("x")
    (path / SHARD).unlink()
    with pytest.raises(CheckpointError, match="has no file"):
        checkpoint.identity("x")


def test_json(tmp_path: Path) -> None:
    first = identity(write_checkpoint(tmp_path / "m", CONFIG, A))
    assert ModelIdentity.from_json(first.to_json()) == first
    value = first.to_json()
    del value["weights_sha256"]
    with pytest.raises(ArtifactError, match=r"has no string weights_sha256 .*make it again"):
        ModelIdentity.from_json(value)
    with pytest.raises(ArtifactError, match="has no string name, config_sha256"):
        ModelIdentity.from_json({**first.to_json(), "name": 1, "config_sha256": None})
    with pytest.raises(ArtifactError, match="must be an object with name, model_type"):
        ModelIdentity.from_json(None)
