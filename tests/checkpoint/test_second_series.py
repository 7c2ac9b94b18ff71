"""MTP layers under names of their own, and a second set of experts in the same layers."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easyep.architectures.definitions import read_definitions
from easyep.architectures.router import Router
from easyep.architectures.spec import Architecture, find_architecture
from easyep.artifacts import Selection
from easyep.checkpoint import planning
from easyep.checkpoint.copied import Copied
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.kept_experts import kept_experts
from easyep.checkpoint.layout import Layout, resolve
from easyep.checkpoint.renumbering import renaming
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.verification import verify
from easyep.errors import LayoutError, SelectionError, UnsupportedModelError
from tests.checkpoint.raw_files import Raw, read_all, tensor, write_checkpoint
from tests.tiny_models import build

COMMON = r"""
model_types = ["made_up"]
[config]
num_experts = ["experts"]
top_k = ["k"]
num_layers = ["layers"]
mtp_layers = ["mtp"]
[tensors.experts]
kind = "per_expert"
name = 'mlp\.experts\.(?P<expert>\d+)\..+'
[tensors.router]
kind = "rows"
name = 'mlp\.gate\.weight'
"""
MTP = (
    r"""mtp_names = '(?:.+\.)?mtp\..+'
    """
    + COMMON
    + r"""
[second]
name = "mtp"
scope = '(?:.+\.)?mtp\.layers\.(?P<layer>\d+)\.(?P<part>.+)'
"""
)
BANKS = (
    COMMON
    + r"""
[tensors.bias]
kind = "rows"
name = 'mlp\.bias'
axis = 1
both = true
[second]
name = "vision"
scope = '(?:.+\.)?layers\.(?P<layer>\d+)\.(?P<part>.+)'
keep = []
[second.tensors.experts]
kind = "per_expert"
name = 'mlp\.experts\.(?P<expert>\d+)\..+'
bank = 1
[second.tensors.router]
kind = "rows"
name = 'mlp\.gate\.weight_1'
axis = 1
"""
)
CONFIG = {"model_type": "made_up", "experts": 4, "k": 1, "layers": 2, "mtp": 1}


def layer(prefix: str, seed: int, numbers: range) -> dict[str, Raw]:
    found = {f"{prefix}mlp.gate.weight": tensor("F32", 4, 8, seed=seed)}
    for number in numbers:
        name = f"{prefix}mlp.experts.{number}.up_proj.weight"
        found[name] = tensor("BF16", 3, 8, seed=seed + number + 1)
    return found


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the text of an architecture file the only one that there is."""

    def use(text: str) -> Architecture:
        found = Architecture(**vars(read_definitions({"made_up": text})["made_up"]))
        known = dict.fromkeys(found.model_types, found)
        monkeypatch.setattr("easyep.architectures.spec._of_type", known.get)
        return found

    return use


def selection(checkpoint: Checkpoint, layers: dict[int, tuple[int, ...]]) -> Selection:
    return Selection(
        model=checkpoint.identity("made-up"),
        num_experts=4,
        keep=2,
        groups="balanced",
        criterion="none",
        layers=layers,
    )


def with_mtp(path: Path) -> Checkpoint:
    tensors = layer("model.layers.0.", 10, range(4)) | layer("model.layers.1.", 20, range(4))
    tensors |= layer("mtp.layers.0.", 30, range(4)) | {"mtp.fc.weight": tensor("F32", 8, 8)}
    return Checkpoint.open(write_checkpoint(path, CONFIG, tensors))


def test_mtp_layers_are_numbered_behind_the_last(tmp_path: Path, family: Any) -> None:
    layout = resolve(with_mtp(tmp_path / "m"), family(MTP))
    assert layout.moe_layers == (0, 1)
    assert layout.mtp_layers == (2,)
    assert layout.second_layers == ()
    assert layout.mtp_depth == 1
    assert layout.is_mtp("mtp.fc.weight")
    assert layout.is_mtp("mtp.layers.0.mlp.gate.weight")
    assert not layout.is_mtp("model.layers.1.mlp.gate.weight")
    assert layout.layer_of["mtp.layers.0.mlp.gate.weight"] == 2
    assert layout.layer_of["model.layers.1.mlp.gate.weight"] == 1


def test_how_many_mtp_layers_there_are_is_stated_where_their_names_are_their_own(
    tmp_path: Path, family: Any
) -> None:
    """Without such a key it is what the numbers of the layers say."""
    source = with_mtp(tmp_path / "m")
    several = replace(source, config={**source.config, "mtp": 3})
    assert resolve(several, family(MTP)).mtp_depth == 3
    assert resolve(replace(source, config={**CONFIG, "mtp": 0}), family(MTP)).mtp_depth == 1
    none = {name: found for name, found in source.tensors.items() if "mtp." not in name}
    assert resolve(replace(several, tensors=none), family(MTP)).mtp_depth == 0
    unstated = family(MTP.replace('mtp_layers = ["mtp"]', ""))
    assert resolve(several, unstated).mtp_depth == 1


@pytest.mark.parametrize("mtp", ["score", "follow", "drop"])
def test_mtp_under_other_names_is_pruned(tmp_path: Path, family: Any, mtp: str) -> None:
    family(MTP)
    source = with_mtp(tmp_path / "m")
    layers = {0: (0, 2), 1: (1, 3)} | ({2: (0, 3)} if mtp == "score" else {})
    rewrite(source, selection(source, layers), tmp_path / "out", mtp=mtp)
    assert verify(tmp_path / "out", tmp_path / "m").problems == []
    before, after = read_all(tmp_path / "m"), read_all(tmp_path / "out")
    found = [name for name in after if name.startswith("mtp.")]
    if mtp == "drop":
        assert not found
        assert Checkpoint.open(tmp_path / "out").config["mtp"] == 0
        return
    kept = (0, 3) if mtp == "score" else (1, 3)
    assert len(found) == 4
    for new, old in enumerate(kept):
        name = "mtp.layers.0.mlp.experts.{}.up_proj.weight"
        assert after[name.format(new)] == before[name.format(old)]


def with_banks(path: Path) -> Checkpoint:
    tensors: dict[str, Raw] = {}
    for number in range(2):
        prefix = f"model.layers.{number}."
        tensors |= layer(prefix, 100 * number, range(8))
        tensors[f"{prefix}mlp.gate.weight_1"] = tensor("F32", 8, 4, seed=100 * number + 50)
        tensors[f"{prefix}mlp.bias"] = tensor("F32", 2, 4, seed=100 * number + 51)
    return Checkpoint.open(write_checkpoint(path, {**CONFIG, "mtp": 0}, tensors))


def test_two_sets_of_experts_in_one_series_of_numbers(tmp_path: Path, family: Any) -> None:
    family(BANKS)
    source = with_banks(tmp_path / "m")
    chosen = {0: (0, 2), 1: (1, 3), 2: (2, 3), 3: (0, 1)}
    rewrite(source, selection(source, chosen), tmp_path / "out")
    assert verify(tmp_path / "out", tmp_path / "m").problems == []
    before, after = read_all(tmp_path / "m"), read_all(tmp_path / "out")
    for number in range(2):
        prefix = f"model.layers.{number}.mlp."
        text, vision = chosen[number], chosen[2 + number]
        for new, old in enumerate([*text, *(4 + each for each in vision)]):
            name = prefix + "experts.{}.up_proj.weight"
            assert after[name.format(new)] == before[name.format(old)]
        gate = np.frombuffer(before[prefix + "gate.weight_1"][2], "<u4").reshape(8, 4)
        assert after[prefix + "gate.weight_1"][2] == gate[:, vision].tobytes()
        bias = np.frombuffer(before[prefix + "bias"][2], "<u4").reshape(2, 4)
        expected = np.stack([bias[0, list(text)], bias[1, list(vision)]])
        assert after[prefix + "bias"] == ("F32", (2, 2), expected.tobytes())
    assert len(after) == 2 * (4 + 3)
    numbers = [int(name.split(".")[5]) for name in after if ".experts." in name]
    assert numbers == [0, 1, 2, 3] * 2  # as they lie in the file


def test_names_of_both_sets_are_renumbered(family: Any) -> None:
    rename = renaming(family(BANKS), Router(4, 1, num_layers=2), {0: (0, 2), 2: (1, 3), 3: (0, 1)})
    assert rename("model.layers.0.mlp.experts.2.up_proj") == "model.layers.0.mlp.experts.1.up_proj"
    assert rename("model.layers.0.mlp.experts.7.up_proj") == "model.layers.0.mlp.experts.3.up_proj"
    assert rename("model.layers.1.mlp.experts.4.up_proj") == "model.layers.1.mlp.experts.2.up_proj"
    assert rename("model.layers.0.mlp.experts.4.up_proj") is None


def test_rows_of_both_sets_are_made_again_where_a_copy_is_proved(
    tmp_path: Path, family: Any
) -> None:
    family(BANKS)
    source = with_banks(tmp_path / "m")
    chosen = selection(source, {0: (0, 2), 1: (1, 3), 2: (2, 3), 3: (0, 1)})
    rewrite(source, chosen, tmp_path / "out")
    (shard,) = planning.plan(source, chosen).shards
    data = (tmp_path / "out" / shard.name).read_bytes()
    copied = {shard.name: Copied(sha256(data).hexdigest(), shard.tensors)}
    assert verify(tmp_path / "out", tmp_path / "m", copied=copied).ok
    bias = Checkpoint.open(tmp_path / "out").tensors["model.layers.1.mlp.bias"]
    changed = data[: bias.begin] + bytes([data[bias.begin] ^ 1]) + data[bias.begin + 1 :]
    (tmp_path / "out" / shard.name).write_bytes(changed)
    problems = "; ".join(verify(tmp_path / "out", tmp_path / "m", copied=copied).problems)
    assert f"tensor {bias.name!r} differs from the source" in problems


def test_a_selection_without_the_second_set_is_refused(tmp_path: Path, family: Any) -> None:
    layout = resolve(source := with_banks(tmp_path / "m"), family(BANKS))
    short = selection(source, {0: (0, 2), 1: (1, 3), 2: (2, 3)})
    with pytest.raises(SelectionError, match=r"lacks layer 3 \(the vision experts of layer 1\)"):
        kept_experts(layout, short, "score")


def test_rows_of_both_sets_have_an_entry_for_each(tmp_path: Path, family: Any) -> None:
    source = with_banks(tmp_path / "m")
    name = "model.layers.1.mlp.bias"
    for shape in ((1, 4), (3, 4)):
        other = {**source.tensors, name: replace(source.tensors[name], shape=shape)}
        with pytest.raises(LayoutError, match="axis before axis 1 should have one entry for each"):
            resolve(replace(source, tensors=other), family(BANKS))
    flat = {
        each: replace(found, shape=(4,)) if each.endswith("mlp.bias") else found
        for each, found in source.tensors.items()
    }
    with pytest.raises(LayoutError, match="axis before axis 0 should have one entry for each"):
        resolve(replace(source, tensors=flat), family(BANKS.replace("axis = 1", "axis = 0", 1)))


def test_a_layer_without_its_second_set_is_refused(tmp_path: Path, family: Any) -> None:
    source = with_banks(tmp_path / "m")
    gone = {n: t for n, t in source.tensors.items() if "layers.1.mlp.gate.weight_1" not in n}
    with pytest.raises(LayoutError, match="has no tensor for the part 'router'"):
        resolve(replace(source, tensors=gone), family(BANKS))
    numbers = tuple(f"experts.{number}." for number in range(4, 8))
    gone = {
        name: found
        for name, found in gone.items()
        if "layers.1." not in name or not any(number in name for number in numbers)
    }
    with pytest.raises(LayoutError, match="^layer 1 lacks its vision experts$"):
        resolve(replace(source, tensors=gone), family(BANKS))


def test_one_rule_of_a_part_that_is_not_optional_asks_for_the_part(
    tmp_path: Path, family: Any
) -> None:
    either = """
    [tensors.scale]
    kind = "rows"
    part = "scale"
    name = 'mlp\\.scale'
    optional = true
    [tensors.scales]
    kind = "rows"
    part = "scale"
    name = 'mlp\\.scales'
    """
    source = with_mtp(tmp_path / "m")
    none = {name: found for name, found in source.tensors.items() if "mtp." not in name}
    with pytest.raises(LayoutError, match="no tensor for the part 'scale'"):
        resolve(replace(source, tensors=none), family(COMMON + either))
    both = COMMON + either.replace("mlp\\.scales'", "mlp\\.scales'\n    optional = true")
    assert resolve(replace(source, tensors=none), family(both)).moe_layers == (0, 1)


def test_shards_hold_a_layers_two_sets_together(tmp_path: Path, family: Any) -> None:
    family(BANKS)
    source = with_banks(tmp_path / "m")
    chosen = {0: (0, 2), 1: (1, 3), 2: (2, 3), 3: (0, 1)}
    plan = planning.plan(source, selection(source, chosen))
    layers = [t.name.split(".")[2] for shard in plan.shards for t in shard.tensors]
    assert layers == sorted(layers)


def test_a_family_can_be_refused_with_its_reason(family: Any) -> None:
    family('model_types = ["made_up"]\nrefuse = "its keys form a grid"')
    with pytest.raises(UnsupportedModelError, match="'made_up' cannot be pruned: its keys"):
        find_architecture(CONFIG)


def test_rows_and_tail_from_the_configuration(tmp_path: Path, family: Any) -> None:
    text = COMMON.replace(
        "name = 'mlp\\.gate\\.weight'",
        "name = 'mlp\\.gate\\.weight'\nrows_per_expert = 'inner.rows'\ntail = 'extra'",
    )
    architecture = family(text)
    tensors = {
        name: each
        for number in range(2)
        for name, each in layer(f"model.layers.{number}.", number, range(4)).items()
    }
    for number in range(2):
        tensors[f"model.layers.{number}.mlp.gate.weight"] = tensor("F32", 4 * 3 + 2, 8, seed=number)
    config = {**CONFIG, "mtp": 0, "inner": {"rows": 3}, "extra": 2}
    source = Checkpoint.open(write_checkpoint(tmp_path / "m", config, tensors))
    assert isinstance(resolve(source, architecture), Layout)
    rewrite(source, selection(source, {0: (0, 2), 1: (1, 3)}), tmp_path / "out")
    before, after = read_all(tmp_path / "m"), read_all(tmp_path / "out")
    name = "model.layers.1.mlp.gate.weight"
    rows = np.frombuffer(before[name][2], "<u4").reshape(14, 8)
    assert after[name][2] == rows[[3, 4, 5, 9, 10, 11, 12, 13]].tobytes()


def test_dense_mtp_modules_are_dropped_with_their_count(tmp_path: Path) -> None:
    path = build("inkling_mm_model", tmp_path / "m")
    checkpoint = Checkpoint.open(path)
    layout = resolve(checkpoint, find_architecture(checkpoint.config))
    assert (layout.mtp_depth, layout.mtp_layers) == (1, ())
    kept = dict.fromkeys(layout.moe_layers, (0, 3, 5, 6))
    selection = Selection(checkpoint.identity("m"), 8, 4, "balanced", "made up", kept)
    for mtp, count in (("score", 1), ("follow", 1), ("drop", 0)):
        out = rewrite(path, selection, tmp_path / mtp, mtp=mtp).path
        assert any(name.startswith("model.mtp.") for name in read_all(out)) == (count > 0)
        config = Checkpoint.open(out).config
        assert config["mtp_config"]["num_nextn_predict_layers"] == count
        assert verify(out, path).ok
