"""Headers and indexes from hostile hands: opened as what they are, or refused in a short error."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import INDEX, Checkpoint
from easyep.checkpoint.headers import MAX_HEADER_BYTES, MAX_NAME_LENGTH
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.side_files import side_files
from easyep.checkpoint.verification import verify
from easyep.errors import CheckpointError, ModelNotFoundError
from tests.checkpoint.raw_files import (
    deepseek_fp8,
    read_file,
    tensor,
    write_checkpoint,
    write_file,
)

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
HUGE = st.sampled_from([-1, 1, 2, 7, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**400, -(10**400)])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | HUGE | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
PATHS = st.sampled_from(
    [
        *("..", "../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "a\\b.safetensors"),
        *("\0.safetensors", "\ud800.safetensors", "x" * 5000 + ".safetensors", ".safetensors", ""),
        *(FIRST, SECOND, "loop.safetensors", "folder.safetensors", "config.json", "x.safetensors"),
    ]
)
# What happens to a text once it is JSON: (where, what is inserted, how many bytes it replaces).
DAMAGE = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from([b"", b"{", b"}", b"[", b'"', b",", b"\xff", b"0", b"-", b"1e999", b"NaN"]),
        st.integers(0, 9),
    ),
    max_size=2,
)


def checkpoint(folder: Path) -> Path:
    shards = {"a": tensor("F32", 2, 3), "b": tensor("BF16", 4)}, {"c": tensor("U8", 5)}
    path = write_checkpoint(folder / "model", {"model_type": "mixtral"}, *shards)
    (path / "loop.safetensors").symlink_to("loop.safetensors")
    (path / "folder.safetensors").mkdir()
    return path


def damaged(text: bytes, damage: list[tuple[float, bytes, int]]) -> bytes:
    for share, inserted, replaced in damage:
        at = int(share * len(text))
        text = text[:at] + inserted + text[at + replaced :]
    return text


def open_or_refuse(path: Path) -> None:
    """Opening ends in a checkpoint whose tensors lie in its files, or in one short error."""
    refused = ""
    try:
        opened = Checkpoint.open(path)
    except (CheckpointError, ModelNotFoundError) as error:
        refused = str(error)
    assert len(refused) < 2000, "a file can make the error long"
    if refused:
        return
    for each in opened.tensors.values():
        assert 0 < each.begin <= each.end <= (path / each.shard).stat().st_size


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, int]:
    """A header that was right, changed in some places, and the length that it claims."""
    header: dict[str, Any] = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    }
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*header]) | st.text(max_size=3))
        entry = header.get(name)
        if not isinstance(entry, dict) or draw(st.integers(0, 3)) == 0:
            header[name] = draw(JUNK)
            continue
        key = draw(st.sampled_from(["dtype", "shape", "data_offsets", "more"]))
        sizes = st.lists(st.integers(-2, 40) | HUGE, max_size=4)
        header[name] = {**entry, key: draw(JUNK | sizes | st.sampled_from(["F4", "I64", "F33"]))}
    text = damaged(json.dumps(header).encode(), draw(DAMAGE))
    length = len(text) + draw(st.sampled_from([0, 0, 0, 1, -1, 8, -8]))
    return text, draw(st.sampled_from([length] * 6 + [0, MAX_HEADER_BYTES, 2**63, 2**64 - 1]))


def check_header(header: tuple[bytes, int], missing: int) -> None:
    text, length = header
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint(Path(folder))
        content = max(0, length).to_bytes(8, "little") + text + bytes(32)
        (path / FIRST).write_bytes(content[: len(content) - missing])
        open_or_refuse(path)


def check_index(
    weight_map: dict[str, Any], metadata: Any, damage: list[tuple[float, bytes, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint(Path(folder))
        index = {"metadata": metadata, "weight_map": weight_map}
        (path / INDEX).write_bytes(damaged(json.dumps(index).encode(), damage))
        open_or_refuse(path)


NAMES = st.sampled_from(["a", "b", "c"]) | st.text(max_size=3) | st.just("n" * 5000)
MAPS = st.dictionaries(NAMES, PATHS | JUNK, max_size=4) | st.just(
    {"a": FIRST, "b": FIRST, "c": SECOND}
)
FEW = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=4000)


@FEW
@given(headers(), st.integers(0, 60))
def test_headers(header: tuple[bytes, int], missing: int) -> None:
    check_header(header, max(0, missing - 40))


@FEW
@given(MAPS, JUNK, DAMAGE)
def test_indexes(weight_map: Any, metadata: Any, damage: list[tuple[float, bytes, int]]) -> None:
    check_index(weight_map, metadata, damage)


@pytest.mark.slow
@MANY
@given(headers(), st.integers(0, 60))
def test_many_headers(header: tuple[bytes, int], missing: int) -> None:
    check_header(header, max(0, missing - 40))


@pytest.mark.slow
@MANY
@given(MAPS, JUNK, DAMAGE)
def test_many_indexes(
    weight_map: Any, metadata: Any, damage: list[tuple[float, bytes, int]]
) -> None:
    check_index(weight_map, metadata, damage)


def with_entry(path: Path, **changes: Any) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    text = json.dumps({"a": entry}).encode()
    (path / FIRST).write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    # Multiplied out, such a shape has millions of digits.
    "dimensions": (
        lambda path: with_entry(path, shape=[2**62] * 200_000),
        f"^{FIRST}: tensor 'a' has 200000 dimensions",
    ),
    "dtype": (lambda path: with_entry(path, dtype="F" * 10**6), f"^{FIRST}: tensor 'a'.*dtype"),
    "long name": (
        lambda path: write_file(path / FIRST, {"n" * 10**6: tensor("F32", 1)}),
        f"^{FIRST}: tensor 'n+'.*more than {MAX_NAME_LENGTH}",
    ),
    "same key": (
        lambda path: (path / INDEX).write_text('{"' + "k" * 10**6 + '":1,"' + "k" * 10**6 + '":1}'),
        "appears twice",
    ),
    "long file name": (
        lambda path: (path / INDEX).write_text(
            json.dumps({"weight_map": {"a": "x" * 10**6 + ".safetensors"}})
        ),
        f"^{INDEX}: tensor 'a' is said to be in",
    ),
    "no text": (
        lambda path: (path / INDEX).write_text(
            json.dumps({"weight_map": {"a": "\ud800.safetensors"}})
        ),
        f"^{INDEX}: tensor 'a' is said to be in",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_would_take_long_or_say_much_is_refused(tmp_path: Path, case: str) -> None:
    path = checkpoint(tmp_path)
    action, message = CASES[case]
    action(path)
    with pytest.raises(CheckpointError, match=message) as error:
        Checkpoint.open(path)
    assert len(str(error.value)) < 2000


def test_a_header_as_long_as_a_terabyte_is_not_read(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    with open(path / FIRST, "wb") as file:  # sparse: it takes no room
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        os.truncate(file.fileno(), 2**40)
    with pytest.raises(
        CheckpointError, match=f"^{FIRST} claims a header of {MAX_HEADER_BYTES + 1}"
    ):
        Checkpoint.open(path)


def test_a_configuration_as_long_as_a_terabyte_is_not_read(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    os.truncate(path / "config.json", 2**40)
    with pytest.raises(CheckpointError, match=r"^config.json has \d+ bytes, more than"):
        Checkpoint.open(path)


def test_what_only_json_can_say_is_carried_over(
    choose: Callable[..., Selection], tmp_path: Path
) -> None:
    """Half a character, and numbers that are no float."""
    expert = "model.layers.0.mlp.experts.1.up_proj"
    path = deepseek_fp8(tmp_path / "model", ignore=["\ud800", expert])
    for file in path.glob("*.safetensors"):
        write_file(file, read_file(file), {"note": "\ud800"})
    index = json.loads((path / INDEX).read_text())
    index["metadata"] = {"note": "\ud800", "total_parameters": 10**400}
    (path / INDEX).write_text(json.dumps(index))
    out = rewrite(path, choose(path), tmp_path / "out", max_shard_size=60_000).path
    assert verify(out, path).problems == []
    pruned = Checkpoint.open(out)
    assert pruned.config["quantization_config"]["modules_to_not_convert"][0] == "\ud800"
    assert {shard.metadata["note"] for shard in pruned.shards.values()} == {"\ud800"}
    metadata = pruned.index_metadata or {}
    assert metadata["note"] == "\ud800"
    assert 4 * 10**399 < metadata["total_parameters"] < 7 * 10**399


def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    (path / "\udcff.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"'.udcff.txt', whose name is no text"):
        side_files(path)
