import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyep.checkpoint.headers import BITS, build_header, bytes_of, parse_header, read_shard
from easyep.errors import CheckpointError
from tests.checkpoint.raw_files import tensor, write_file, write_header

GOOD = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
}


def parse(header: Any, data: int = 26) -> Any:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return parse_header(text, 8 + len(text) + data, "file")


def changed(**entry: Any) -> dict[str, Any]:
    return {**GOOD, "a": {**GOOD["a"], **entry}}


def test_offsets_count_from_the_beginning_of_the_file() -> None:
    shard = parse(GOOD)
    start = 8 + len(json.dumps(GOOD))
    assert [(t.name, t.begin - start, t.end - start) for t in shard.tensors] == [
        ("a", 0, 24),
        ("b", 24, 26),
    ]
    assert shard.tensors[1].shape == ()
    assert shard.tensors[1].nbytes == 2


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"\xff{}", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"a": {"dtype": "F32"}, "a": {"dtype": "F32"}}', "'a' appears twice"),
        (b"[" * 50_000, "nested too deeply"),
        ({**GOOD, "__metadata__": {"a": 1}}, "__metadata__ must be an object with strings"),
        ({**GOOD, "__metadata__": []}, "__metadata__ must be an object with strings"),
        ({**GOOD, "a": 1}, "'a' must have dtype, shape and data_offsets"),
        (changed(more=1), "nothing else"),
        (changed(dtype="F33"), "unknown dtype 'F33'"),
        (changed(dtype=["F32"]), "unknown dtype"),
        (changed(shape=[-2, -3]), "not a list of sizes"),
        (changed(shape=[True, 6]), "not a list of sizes"),
        (changed(shape=6), "not a list of sizes"),
        (changed(shape=[2**63, 0]), "not a list of sizes"),
        (changed(shape=[2, 4]), "needs 32 bytes .* its range has 24"),
        (changed(dtype="F16"), "needs 12 bytes"),
        (changed(dtype="F4", shape=[3]), "12 bits do not fill whole bytes"),
        (changed(data_offsets=[24, 0]), "claims bytes"),
        (changed(data_offsets=[-24, 0]), "not two sizes"),
        (changed(data_offsets=[0, 24, 26]), "not two sizes"),
        (changed(data_offsets=[0.0, 24.0]), "not two sizes"),
        (changed(data_offsets=[2, 26]), "'a' leaves a hole|'b' overlaps"),
        (changed(data_offsets=[10**9, 10**9 + 24]), "claims bytes .* truncated"),
        ({"a": GOOD["a"]}, "tensors end at byte"),
        ({"b": {**GOOD["b"]}}, "'b' leaves a hole"),
        ({"x" * 2000: GOOD["a"]}, "more than 1000 characters"),
        ({"\ud800": GOOD["a"]}, "not valid text"),
    ],
)
def test_wrong_headers_are_refused_by_name(header: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"^file.*({message})"):
        parse(header)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    for content, message in [
        (b"", "has 0 bytes"),
        (b"1234567", "has 7 bytes"),
        ((2**40).to_bytes(8, "little") + b"{}", "claims a header of 1099511627776 bytes"),
        ((100).to_bytes(8, "little") + b"{}", "truncated"),
    ]:
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            read_shard(file, "x")
    write_header(file, json.dumps(GOOD).encode(), b"0" * 25)
    with pytest.raises(CheckpointError, match="truncated"):
        read_shard(file, "x")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_shard(tmp_path / "none", "none")


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_parsed_or_refused(header: bytes, size: int) -> None:
    with suppress(CheckpointError):
        parse_header(header, 8 + len(header) + size, "file")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(sorted(BITS)) | JUNK,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | JUNK,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | JUNK,
    }
)


@given(st.dictionaries(st.text(max_size=3), ENTRY | JUNK, max_size=4), st.integers(0, 60))
def test_what_is_accepted_tiles_the_file(header: dict[str, Any], size: int) -> None:
    try:
        text = json.dumps(header).encode()
        shard = parse_header(text, 8 + len(text) + size, "file")
    except CheckpointError:
        return
    at = 8 + len(text)
    for each in shard.tensors:
        assert each.begin == at
        assert each.nbytes == bytes_of(each.dtype, each.shape)
        at = each.end
    assert at == shard.size


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(
            lambda name: name != "__metadata__"
        ),
        st.tuples(
            st.sampled_from(["F32", "BF16", "U8", "F4"]), st.lists(st.integers(0, 4), max_size=6)
        ),
        max_size=5,
    )
)
def test_what_is_written_reads_back(tensors: dict[str, tuple[str, list[int]]]) -> None:
    whole = {n: (d, [2, *s] if d == "F4" else s) for n, (d, s) in tensors.items()}
    header = build_header(((n, d, tuple(s)) for n, (d, s) in whole.items()), {"format": "pt"})
    assert len(header) % 8 == 0
    data = sum(bytes_of(d, s) for d, s in whole.values())
    shard = parse_header(header[8:], len(header) + data, "file")
    assert {t.name: (t.dtype, list(t.shape)) for t in shard.tensors} == whole
    assert shard.metadata == {"format": "pt"}


def test_the_reference_library_reads_what_is_written(tmp_path: Path) -> None:
    from safetensors import safe_open

    dtype, shape, data = tensor("F32", 2, 3)
    header = build_header([("w", dtype, shape)], {"format": "pt"})
    (tmp_path / "x.safetensors").write_bytes(header + data)
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
        assert file.get_tensor("w").tobytes() == data


def test_this_reads_what_the_reference_library_writes(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"b": np.ones(3, "i1"), "a": np.ones((2, 2), "f4")}, tmp_path / "x.safetensors")
    shard = read_shard(tmp_path / "x.safetensors", "x")
    assert {t.name: (t.dtype, t.shape) for t in shard.tensors} == {
        "a": ("F32", (2, 2)),
        "b": ("I8", (3,)),
    }


def test_files_by_hand_are_valid(tmp_path: Path) -> None:
    write_file(tmp_path / "x.safetensors", {"w": tensor("U8", 3)}, {"format": "pt"})
    assert read_shard(tmp_path / "x.safetensors", "x").tensors[0].shape == (3,)
