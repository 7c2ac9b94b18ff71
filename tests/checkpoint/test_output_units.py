"""What the tensors of a layer become, where the families of the other tests do not show it."""

from pathlib import Path

import pytest

from easyep.architectures.spec import find_architecture
from easyep.checkpoint.copying import Range
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.headers import Tensor
from easyep.checkpoint.layout import Layout, resolve
from easyep.checkpoint.moe_layer import RowsTensor
from easyep.checkpoint.output_files import OutputTensor, Unit
from easyep.checkpoint.output_units import _joined, _sliced, uneven, units_of
from easyep.errors import LayoutError
from tests.checkpoint.raw_files import Raw, tensor, write_checkpoint
from tests.checkpoint.test_layout import CONFIG, tensors

UP = "model.layers.1.mlp.experts.{}.up_proj.weight"


def opened(path: Path, found: dict[str, Raw]) -> tuple[Checkpoint, Layout]:
    checkpoint = Checkpoint.open(write_checkpoint(path, CONFIG, found))
    return checkpoint, resolve(checkpoint, find_architecture(checkpoint.config))


def test_experts_that_are_stored_alike(tmp_path: Path) -> None:
    assert uneven(opened(tmp_path / "m", tensors())[1]) is None


@pytest.mark.parametrize("other", [tensor("BF16", 2, 2), tensor("F32", 2, 3)], ids=["type", "size"])
def test_a_layer_with_an_expert_in_another_form_is_named(tmp_path: Path, other: Raw) -> None:
    found = {**tensors(), UP.format(2): other}
    assert uneven(opened(tmp_path / "m", found)[1]) == 1


def test_the_first_such_layer_is_named(tmp_path: Path) -> None:
    found = {**tensors(), UP.format(2): tensor("BF16", 2, 2)}
    found[UP.format(0).replace("layers.1", "layers.0")] = tensor("BF16", 2, 2)
    assert uneven(opened(tmp_path / "m", found)[1]) == 0


def test_tensors_of_an_expert_lie_in_the_order_of_the_first_one(tmp_path: Path) -> None:
    """Whichever experts stay, the places of all tensors are the same."""
    found = tensors(layers=2)
    turned = [name for name in found if ".experts.3." in name]
    shuffled = {name: raw for name, raw in found.items() if name not in turned}
    shuffled.update({name: found[name] for name in reversed(turned)})
    checkpoint, layout = opened(tmp_path / "m", shuffled)
    kept = {0: (1, 3), 1: (0, 3)}
    units = [u for u in units_of(checkpoint, layout, kept, drop_mtp=False) if u.expert >= 0]
    parts = [[each.name.split(".")[-2] for each in unit.tensors] for unit in units]
    assert parts == [["gate_proj", "up_proj", "down_proj"]] * 4
    first = [name for name in found if ".experts.0." in name]
    others = {name: raw for name, raw in found.items() if name not in first}
    turned_first = {name: found[name] for name in reversed(first)} | others
    checkpoint, layout = opened(tmp_path / "first", turned_first)
    units = [u for u in units_of(checkpoint, layout, kept, drop_mtp=False) if u.expert >= 0]
    parts = [[each.name.split(".")[-2] for each in unit.tensors] for unit in units]
    assert parts == [["down_proj", "up_proj", "gate_proj"]] * 4
    assert [(unit.layer, unit.expert) for unit in units] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_what_stores_one_matrix_stays_together_in_the_order_of_the_source() -> None:
    def single(name: str, at: int) -> Unit:
        return Unit(0, ("a", at), (OutputTensor(name, "U8", (1,), (Range("a", at, at + 1),)),))

    places = {"x.weight_scale_inv": 9, "y.weight": 5, "x.weight": 3, "z": 6, "z_scale": 7}
    units = _joined([single(name, at) for name, at in places.items()])
    assert [(unit.at[1], [each.name for each in unit.tensors]) for unit in units] == [
        (3, ["x.weight", "x.weight_scale_inv"]),
        (5, ["y.weight"]),
        (6, ["z", "z_scale"]),
    ]


def test_rows_that_fill_no_whole_bytes_are_refused(tmp_path: Path) -> None:
    """Four bits for each expert: two experts share a byte."""
    found = tensors()
    found["model.layers.1.mlp.gate.weight"] = ("F4", (4, 1), b"\x12\x34")
    checkpoint, layout = opened(tmp_path / "m", found)
    kept = {0: (0, 1), 1: (0, 2)}
    with pytest.raises(LayoutError, match=r"gate.weight' \(F4\) cannot be cut .* take 4 bits"):
        list(units_of(checkpoint, layout, kept, drop_mtp=False))
    found["model.layers.1.mlp.gate.weight"] = ("F4", (4, 2), b"\x12\x34\x56\x78")
    checkpoint, layout = opened(tmp_path / "n", found)
    (router,) = [
        each
        for unit in units_of(checkpoint, layout, kept, drop_mtp=False)
        for each in unit.tensors
        if each.name == "model.layers.1.mlp.gate.weight"
    ]
    begin = checkpoint.tensors[router.name].begin
    assert [(each.begin - begin, each.end - begin) for each in router.ranges] == [(0, 1), (2, 3)]


def test_rows_along_a_later_axis_fill_whole_bytes_one_by_one() -> None:
    """Those of an expert lie in one byte together, but are not cut together."""
    of_two = RowsTensor(Tensor("w", "a", "F4", (2, 8), 0, 8), 1, 2, 0, (0,))
    with pytest.raises(LayoutError, match=r"'w' \(F4\) cannot be cut .* a row takes 4 bits"):
        _sliced(of_two, {0: (0, 1)}, 4)
    whole = RowsTensor(Tensor("w", "a", "F4", (2, 8, 2), 0, 16), 1, 2, 0, (0,))
    assert _sliced(whole, {0: (0, 1)}, 4).shape == (2, 4, 2)
