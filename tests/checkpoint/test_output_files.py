"""Which tensors end in which file, on units made by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from easyep.checkpoint import output_files
from easyep.checkpoint.copying import Range
from easyep.checkpoint.files import SINGLE
from easyep.checkpoint.output_files import OutputTensor, Unit, shards


def unit(name: str, layer: int | None, at: int, nbytes: int = 100, expert: int = -1) -> Unit:
    tensor = OutputTensor(name, "U8", (nbytes,), (Range(SINGLE, at, at + nbytes),))
    return Unit(layer, (SINGLE, at), (tensor,), expert)


def source(*metadata: dict[str, str], single: bool = False) -> Any:
    names = [SINGLE] if single else [f"{number}.safetensors" for number in range(len(metadata))]
    files = [SimpleNamespace(metadata=each) for each in metadata]
    return SimpleNamespace(shards=dict(zip(names, files, strict=True)))


def names(units: list[Unit], limit: int, of: Any) -> list[list[str]]:
    return [[tensor.name for tensor in shard.tensors] for shard in shards(units, of, limit)]


def test_files_are_filled_to_the_last_byte() -> None:
    units = [unit(f"{number}", number, 100 * number) for number in range(4)]
    assert names(units, 200, source({})) == [["0", "1"], ["2", "3"]]
    assert names(units, 199, source({})) == [["0"], ["1"], ["2"], ["3"]]
    assert names(units, 400, source({})) == [["0", "1", "2", "3"]]


def test_what_is_larger_than_a_file_has_one_of_its_own() -> None:
    units = [unit("a", 0, 0, 10), unit("b", 1, 100, 500), unit("c", 2, 600, 10)]
    assert names(units, 100, source({})) == [["a"], ["b"], ["c"]]


def test_layers_stand_in_order_between_what_lies_before_and_behind_them() -> None:
    units = [
        unit("head", None, 900),
        unit("expert 1", 0, 300, expert=1),
        unit("expert 0", 0, 400, expert=0),
        unit("layer 1", 1, 200),
        unit("norm of 0", 0, 700),
        unit("router of 0", 0, 600),
        unit("between", None, 500),
        unit("embedding", None, 100),
    ]
    order = ["embedding", "router of 0", "norm of 0", "expert 0", "expert 1", "layer 1"]
    order += ["between", "head"]
    assert names(units, 10_000, source({})) == [order]


def test_large_models_become_as_many_files_as_are_written_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    units = [unit(f"{number:2}", number, 100 * number) for number in range(40)]
    for smallest, count in ((4001, 1), (2001, 1), (2000, 2), (1000, 4), (100, 4)):
        monkeypatch.setattr(output_files, "SMALL_BYTES", smallest)
        sizes = [len(each) for each in names(units, 10**9, source({}))]
        assert len(sizes) == count
        assert max(sizes) <= 40 // count + 1


@pytest.mark.parametrize(
    ("of", "limit", "expected"),
    [
        (source({}, single=True), 200, [SINGLE]),
        (source({}), 200, ["model-00001-of-00001.safetensors"]),
        (
            source({}, single=True),
            100,
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
    ],
)
def test_names(of: Any, limit: int, expected: list[str]) -> None:
    units = [unit("a", 0, 0), unit("b", 1, 100)]
    assert [shard.name for shard in shards(units, of, limit)] == expected


def test_metadata_is_what_all_files_agree_on() -> None:
    of = source({"format": "pt", "a": "1", "b": "2"}, {"format": "pt", "a": "2"}, {"format": "pt"})
    (shard,) = shards([unit("a", 0, 0)], of, 1000)
    assert shard.metadata == {"format": "pt"}


def test_wider_types_come_first_only_where_one_would_begin_off_its_boundary() -> None:
    def tensor(name: str, dtype: str, count: int) -> OutputTensor:
        return OutputTensor(name, dtype, (count,), ())

    odd = (tensor("u", "U8", 3), tensor("h", "F16", 1), tensor("f", "F32", 1))
    even = (tensor("u", "U8", 4), tensor("f", "F32", 1), tensor("h", "F16", 1))
    for tensors, order in ((odd, ["f", "h", "u"]), (even, ["u", "f", "h"])):
        (shard,) = shards([Unit(0, (SINGLE, 0), tensors)], source({}), 1000)
        assert [each.name for each in shard.tensors] == order
