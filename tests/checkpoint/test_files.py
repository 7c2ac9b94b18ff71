import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from easyep.checkpoint.files import Checkpoint, checked_file, parse_object
from easyep.errors import CheckpointError, ModelNotFoundError
from easyep.resources import demo_model
from easyep.strict_json import MAX_NESTING
from tests.checkpoint.raw_files import tensor, write_checkpoint, write_file

CONFIG = {"model_type": "mixtral", "num_local_experts": 2}
INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(
        tmp_path / "model", CONFIG, {"a": tensor("F32", 2)}, {"b": tensor("BF16", 2, 2)}
    )


def edit_index(path: Path, **weight_map: object) -> None:
    index = json.loads((path / INDEX).read_text())
    index["weight_map"].update(weight_map)
    (path / INDEX).write_text(json.dumps(index))


def test_a_sharded_checkpoint(checkpoint: Path) -> None:
    opened = Checkpoint.open(checkpoint)
    assert list(opened.shards) == list(SHARDS)
    assert {t.name: (t.shard, t.dtype, t.shape) for t in opened.tensors.values()} == {
        "a": (SHARDS[0], "F32", (2,)),
        "b": (SHARDS[1], "BF16", (2, 2)),
    }
    a = opened.tensors["a"]
    assert (checkpoint / a.shard).read_bytes()[a.begin : a.end] == tensor("F32", 2)[2]
    assert opened.shards[a.shard].metadata == {"format": "pt"}
    assert opened.config == CONFIG
    assert opened.config_text == (checkpoint / "config.json").read_text()
    assert opened.nbytes == 16


def test_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    write_file(tmp_path / "model.safetensors", {"a": tensor("F32", 2)})
    opened = Checkpoint.open(tmp_path)
    assert opened.index_metadata is None
    assert list(opened.tensors) == ["a"]


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")])
def test_files_are_as_deep_as_all_that_walks_through_them(opening: str, closing: str) -> None:
    def nested(levels: int) -> str:
        return '{"a":' + opening * (levels - 1) + "1" + closing * (levels - 1) + "}"

    assert parse_object(nested(MAX_NESTING), "x") == json.loads(nested(MAX_NESTING))
    with pytest.raises(CheckpointError, match="x is not valid JSON: values are nested too deeply"):
        parse_object(nested(MAX_NESTING + 1), "x")


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_no_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelNotFoundError, match=f"{name} is not a directory"):
        Checkpoint.open(tmp_path / name)


def _break(path: Path, what: str) -> None:
    """Damage a checkpoint in one way."""
    first, second = (path / name for name in SHARDS)
    actions: dict[str, Callable[[], object]] = {
        "no config": (path / "config.json").unlink,
        "config": lambda: (path / "config.json").write_text("{"),
        "config list": lambda: (path / "config.json").write_text("[]"),
        "config twice": lambda: (path / "config.json").write_text('{"a": 1, "a": 2}'),
        "config bytes": lambda: (path / "config.json").write_bytes(b'{"a": "\xff"}'),
        "no weights": (path / INDEX).unlink,
        "index": lambda: (path / INDEX).write_text("{}"),
        "index twice": lambda: (path / INDEX).write_text('{"weight_map": {"a": "x", "a": "y"}}'),
        "no shard": second.unlink,
        "two loadable": lambda: shutil.copy(first, path / "model.safetensors"),
        "up": lambda: edit_index(path, a="../model/" + SHARDS[0]),
        "dots": lambda: edit_index(path, a=".."),
        "absolute": lambda: edit_index(path, a=str(first)),
        "number": lambda: edit_index(path, a=1),
        "not weights": lambda: edit_index(path, a="config.json"),
        "stale": lambda: edit_index(path, gone=SHARDS[0]),
        "wrong shard": lambda: edit_index(path, a=SHARDS[1]),
        "unnamed": lambda: write_file(first, {"a": tensor("F32", 2), "c": tensor("U8", 1)}),
        "twice": lambda: write_file(second, {"a": tensor("F32", 2), "b": tensor("BF16", 2, 2)}),
        "truncated": lambda: os.truncate(first, first.stat().st_size - 1),
        "link out": lambda: _move_out(first),
        "dangling": lambda: (first.unlink(), first.symlink_to("nowhere")),
        "loop": lambda: (first.unlink(), first.symlink_to(first.name)),
        "folder": lambda: (first.unlink(), first.mkdir()),
        "pipe": lambda: (first.unlink(), os.mkfifo(first)),
    }
    actions[what]()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adapter_config.json", "holds an adapter, not a model; merge it"),
        ("model-Q4_K_M.gguf", "holds GGUF files, .* convert what comes out"),
    ],
)
@pytest.mark.parametrize("config", [False, True])
def test_other_kinds_of_models_are_told_by_name(
    tmp_path: Path, name: str, message: str, config: bool
) -> None:
    (tmp_path / name).write_text("{}")
    if config:
        (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match=message):
        Checkpoint.open(tmp_path)


def test_an_adapter_beside_a_model_is_no_matter(tmp_path: Path) -> None:
    shutil.copytree(demo_model(), tmp_path / "model")
    (tmp_path / "model" / "adapter_config.json").write_text("{}")
    assert Checkpoint.open(tmp_path / "model").config["model_type"] == "deepseek_v3"


def _move_out(file: Path) -> None:
    outside = file.parent.parent / "outside"
    outside.mkdir()
    shutil.move(file, outside / file.name)
    file.symlink_to(outside / file.name)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no config", "has no file config.json"),
        ("config", "config.json is not valid JSON"),
        ("config list", "config.json holds list"),
        ("config twice", "'a' appears twice"),
        ("config bytes", "config.json is not UTF-8"),
        ("no weights", "neither model.safetensors.index.json nor model.safetensors"),
        ("index", "weight_map must be an object"),
        ("index twice", "'a' appears twice"),
        ("no shard", f"has no file {SHARDS[1]}"),
        ("two loadable", "both model.safetensors and an index"),
        ("up", "tensor 'a' is said to be in '../model/.*not the plain name"),
        ("dots", "not the plain name"),
        ("absolute", "not the plain name"),
        ("number", "said to be in 1"),
        ("not weights", "not the plain name of a .safetensors file"),
        ("stale", "says that tensor 'gone' is in .*; it is not"),
        ("wrong shard", "says that tensor 'a' is in .*00002.*; it is not"),
        ("unnamed", "does not name tensor 'c'"),
        ("twice", "tensor 'a' is in .*00001.* and again in .*00002"),
        ("truncated", f"{SHARDS[0]}: tensor 'a' claims bytes"),
        ("link out", "is a link to .*outside.*not followed"),
        ("dangling", "incomplete"),
        ("loop", "cannot be read"),
        ("folder", "not a regular file"),
        ("pipe", "not a regular file"),
    ],
)
def test_damaged_checkpoints_are_refused_by_name(checkpoint: Path, what: str, message: str) -> None:
    _break(checkpoint, what)
    with pytest.raises((CheckpointError, ModelNotFoundError), match=message):
        Checkpoint.open(checkpoint)


def test_a_snapshot_of_the_hugging_face_cache(checkpoint: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--some--model"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(checkpoint.iterdir())):
        file.rename(repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", str(number)))
    assert list(Checkpoint.open(snapshot).tensors) == ["a", "b"]
    (tmp_path / "elsewhere").symlink_to(snapshot)
    assert list(Checkpoint.open(tmp_path / "elsewhere").tensors) == ["a", "b"]


def test_a_snapshot_may_link_to_its_own_blobs_only(checkpoint: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a" / "snapshots" / "abc"
    other = tmp_path / "models--b" / "blobs"
    snapshot.parent.mkdir(parents=True)
    other.mkdir(parents=True)
    checkpoint.rename(snapshot)
    (snapshot / "config.json").rename(other / "1")
    (snapshot / "config.json").symlink_to(other / "1")
    with pytest.raises(CheckpointError, match="outside"):
        Checkpoint.open(snapshot)


def test_links_inside_of_the_directory_are_followed(checkpoint: Path) -> None:
    (checkpoint / "store").mkdir()
    (checkpoint / SHARDS[0]).rename(checkpoint / "store" / "one")
    (checkpoint / SHARDS[0]).symlink_to(Path("store", "one"))
    assert list(Checkpoint.open(checkpoint).tensors) == ["a", "b"]


def test_a_directory_may_be_named_from_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    for name in ("model", "link"):
        assert checked_file(Path(name), "config.json") == tmp_path / "model" / "config.json"
