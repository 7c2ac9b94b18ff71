"""Which rule explains a name, and which names nobody may pass over."""

import re
from time import process_time

import pytest

from easyep.architectures.definitions import read_definitions
from easyep.architectures.rules import NAMESPACE
from easyep.architectures.spec import Architecture
from easyep.checkpoint.explaining import explain
from easyep.errors import LayoutError
from tests.checkpoint.test_second_series import BANKS, COMMON, MTP

OWN_MTP = r"mtp_names = '(?:.+\.)?mtp\..+'" + "\n"
IN_ONE_LAYER = r"""
[second]
name = "vision"
scope = '(?:.+\.)?layers\.(?P<layer>\d+)\.vision_(?P<part>.+)'
"""


def family(text: str) -> Architecture:
    return Architecture(**vars(read_definitions({"made_up": text})["made_up"]))


def label(text: str, name: str) -> str | None:
    found = explain(family(text), name, 4)
    return None if found is None else found.rule.label


def test_mtp_layers_with_experts_are_looked_at_outside_of_their_series_too() -> None:
    assert label(MTP, "mtp.fc.weight") is None
    assert label(MTP, "mtp.layers.0.mlp.gate.weight") == "router"
    with pytest.raises(LayoutError, match="'mtp.experts.x' looks like"):
        label(MTP, "mtp.experts.x")
    assert label(OWN_MTP + COMMON, "mtp.experts.x") is None  # no experts are described there
    with pytest.raises(LayoutError, match="'more.experts.x' looks like"):
        label(OWN_MTP + COMMON, "more.experts.x")


def test_names_that_look_routed_in_one_of_two_series_are_refused() -> None:
    text = COMMON + IN_ONE_LAYER
    assert label(text, "layers.0.vision_norm.weight") is None
    with pytest.raises(LayoutError, match=r"'layers.0.vision_gate.weight' looks like"):
        label(text, "layers.0.vision_gate.weight")


def test_the_rules_that_there_are_are_named() -> None:
    with pytest.raises(LayoutError) as error:
        label(BANKS, "layers.0.mlp.experts.8.w")
    rules = r"experts mlp\.experts\.(?P<expert>\d+)\..+, router mlp\.gate\.weight, bias mlp\.bias, "
    assert f"made_up explains it ({rules}router mlp\\.gate\\.weight_1);" in str(error.value)


def test_excluded_names_are_nobody_s() -> None:
    text = r"exclude = '^tower\.'" + "\n" + COMMON
    assert label(text, "tower.experts.x") is None
    assert label(text, "tower.layers.0.mlp.gate.weight") is None
    with pytest.raises(LayoutError, match="looks like"):
        label(text, "other.experts.x")


@pytest.mark.parametrize(("number", "bank"), [(0, 0), (3, 0), (4, 1), (7, 1)])
def test_the_numbers_of_two_sets_follow_each_other(number: int, bank: int) -> None:
    name = f"layers.0.mlp.experts.{number}.w"
    found = explain(family(BANKS), name, 4)
    assert found is not None
    assert (found.rule.bank, found.number) == (bank, str(number))
    assert name[found.start : found.end] == found.number
    assert found.layer(30) == 30 * bank


def test_numbers_of_neither_set_and_names_of_both_are_refused() -> None:
    with pytest.raises(LayoutError, match="no rule"):
        label(BANKS, "layers.0.mlp.experts.8.w")
    both = COMMON + IN_ONE_LAYER.replace("vision_(", "(")
    with pytest.raises(LayoutError, match="explained by more than one rule .*router.*router"):
        label(both, "layers.0.mlp.gate.weight")


@pytest.mark.parametrize("name", ["layers.0." + "expert" * 160 + ".", "e_score" * 140 + "\n."])
def test_long_names_are_looked_at_once(name: str) -> None:
    """A header can hold a hundred thousand names that a pattern could walk through again."""
    of = family(COMMON)
    begin = process_time()
    for _ in range(300):
        with pytest.raises(LayoutError, match="looks like routed experts"):
            explain(of, name, 4)
    assert process_time() - begin < 2


@pytest.mark.parametrize(
    ("part", "routed"),
    [
        *(("mlp.gate.weight", True), ("gate", True), ("moe.x", True), ("a.moe", True)),
        *(("my_experts", True), ("a.router_b.c", True), ("a.e_score_b", True)),
        *(("gate_proj.weight", False), ("a.agate.b", False), ("moes.a", False), ("a.b", False)),
    ],
)
def test_what_looks_routed(part: str, routed: bool) -> None:
    assert (re.compile(NAMESPACE, re.ASCII).fullmatch(part) is not None) == routed
