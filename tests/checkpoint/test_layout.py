import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from easyep.architectures.spec import find_architecture
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.layout import Layout, resolve
from easyep.errors import CheckpointError, LayoutError
from tests.checkpoint.raw_files import Raw, read_all, tensor, write_checkpoint


def layout_of(path: Path) -> Layout:
    checkpoint = Checkpoint.open(path)
    return resolve(checkpoint, find_architecture(checkpoint.config))


@pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe", "gpt_oss", "mixtral", "qwen2_moe"])
def test_the_parts_of_a_layer(source: Callable[[str], Path], family: str) -> None:
    layer = layout_of(source(family)).layers[2]
    parts = sorted(set(layer.parts.values()))
    bias = family in ("deepseek_v3", "glm4_moe", "gpt_oss")
    stacked = family == "gpt_oss"
    assert parts == ["bias"] * bias + ["experts"] * stacked + ["router"]
    assert len(layer.experts) == (0 if stacked else 16 if family == "deepseek_v3" else 8)
    assert all(len(expert) == 3 for expert in layer.experts)
    if not stacked:
        assert layer.experts[5][0].renumbered(2, 4).replace(".2.", ".5.") in {
            layer.experts[5][0].tensor.name,
            layer.experts[5][0].tensor.name.replace("layers.2.", "layers.5."),
        }


def test_what_lies_outside_of_all_layers_is_of_no_mtp_layer(source: Callable[[str], Path]) -> None:
    layout = layout_of(source("mixtral"))
    router = dataclasses.replace(layout.router, num_layers=1)
    assert not dataclasses.replace(layout, router=router).is_mtp("model.embed_tokens.weight")


CONFIG = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 2,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}


def tensors(experts: int = 4, layers: int = 2) -> dict[str, Raw]:
    found: dict[str, Raw] = {"model.embed_tokens.weight": tensor("F32", 4, 2)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}.mlp."
        found[f"{prefix}gate.weight"] = tensor("F32", experts, 2)
        for expert in range(experts):
            for name in ("gate_proj", "up_proj", "down_proj"):
                found[f"{prefix}experts.{expert}.{name}.weight"] = tensor("F32", 2, 2)
    return found


def resolved(path: Path, found: dict[str, Raw], **config: object) -> Layout:
    return layout_of(write_checkpoint(path, {**CONFIG, **config}, found))


def test_stacked_experts_are_rows(tmp_path: Path) -> None:
    found = tensors(layers=1)
    found["model.layers.1.mlp.gate.weight"] = tensor("F32", 4, 2)
    found["model.layers.1.mlp.experts.gate_up_proj"] = tensor("U8", 4, 3, 5)
    found["model.layers.1.mlp.experts.down_proj"] = tensor("U8", 4, 3, 5)
    found["model.layers.1.mlp.experts.down_proj_input_scale"] = tensor("F32")
    layout = resolved(tmp_path / "m", found)
    assert len(layout.layers[0].experts) == 4
    assert layout.layers[1].experts == ()
    assert [rows.tensor.shape for rows in layout.layers[1].rows] == [(4, 2), (4, 3, 5), (4, 3, 5)]
    assert layout.layers[1].rows[1].shape_with(2) == (2, 3, 5)
    assert "model.layers.1.mlp.experts.down_proj_input_scale" in layout.kept


EXPERT = "model.layers.1.mlp.experts"
Change = Callable[[dict[str, Raw]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.update({f"{EXPERT}.odd": tensor("F32", 4)}),
            r"'model.layers.1.mlp.experts.odd' looks like routed experts.*no rule",
        ),
        (
            lambda t: t.update({"model.layers.1.mlp.router.bias": tensor("F32", 4)}),
            "router.bias' looks like",
        ),
        (lambda t: t.update({"mtp.experts.x": tensor("F32", 4)}), "'mtp.experts.x' looks like"),
        (
            lambda t: t.update({"model.layers.1.mlp.gate.weight": tensor("F32", 3, 2)}),
            r"gate.weight' has shape \[3, 2\]; with 4 experts axis 0 should have 4 rows",
        ),
        (
            lambda t: t.update({"model.layers.1.mlp.gate.weight": tensor("F32")}),
            r"gate.weight' has shape \[\]",
        ),
        (lambda t: t.pop("model.layers.1.mlp.gate.weight"), "no tensor for the part 'router'"),
        (
            lambda t: t.pop(f"{EXPERT}.2.up_proj.weight"),
            r"experts 0 and 2 do not consist .* has '.+\.mlp\.experts\.<expert>\.up_proj\.weight'",
        ),
        (lambda t: t.pop(f"{EXPERT}.0.up_proj.weight"), "experts 0 and 1 do not consist"),
        (
            lambda t: [t.pop(name) for name in list(t) if ".layers." in name],
            "layer 0 lacks routed experts, contrary to config.json.*2 layers",
        ),
        (
            lambda t: [t.pop(f"{EXPERT}.3.{p}_proj.weight") for p in ("gate", "up", "down")],
            "has 3 experts, the configuration says 4; expert 3 is missing",
        ),
        (
            lambda t: t.update({f"{EXPERT}.4.up_proj.weight": tensor("F32", 2, 2)}),
            "is of expert 4; the configuration says that there are 4",
        ),
        (
            lambda t: t.update({f"{EXPERT}.02.up_proj.weight": tensor("F32", 2, 2)}),
            "is of expert 02",
        ),
        (
            lambda t: t.update({f"{EXPERT}.gate_up_proj": tensor("F32", 4, 2)}),
            "part 'experts' in two layouts: experts and stacked_experts",
        ),
        (
            lambda t: t.update({"talker.layers.1.mlp.gate.weight": tensor("F32", 4, 2)}),
            "under 'model.layers.1.' and under 'talker.layers.1.'",
        ),
        (
            lambda t: t.update(
                {n.replace("model.layers.1", "mtp.layers.2"): raw for n, raw in t.items()}
            ),
            "experts lie under 'model.layers.' and 'mtp.layers.'; .* one stack",
        ),
        (
            lambda t: t.update({"model.layers.01.mlp.gate.weight": tensor("F32", 4, 2)}),
            "layers.01.mlp.gate.weight' looks like",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if ".layers.1." in name],
            "layer 1 lacks routed experts, contrary to config.json.*2 layers",
        ),
    ],
)
def test_what_the_rules_do_not_explain_is_refused_by_name(
    tmp_path: Path, change: Change, message: str
) -> None:
    found = tensors()
    change(found)
    with pytest.raises(LayoutError, match=message):
        resolved(tmp_path / "m", found)


def test_experts_where_the_configuration_has_none(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="layer 1 has routed experts, contrary"):
        resolved(tmp_path / "a", tensors(), mlp_only_layers=[1])
    with pytest.raises(LayoutError, match="describes no layer with routed experts"):
        resolved(tmp_path / "b", tensors(), mlp_only_layers=[0, 1])


def test_a_tensor_that_two_rules_explain_is_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "m", CONFIG, tensors()))
    architecture = find_architecture(checkpoint.config)
    (stack,) = architecture.stacks
    stack = dataclasses.replace(stack, keep=(stack.rules[0].name,))
    twice = dataclasses.replace(architecture, stacks=(stack,))
    with pytest.raises(LayoutError, match="more than one rule .*: experts, keep"):
        resolve(checkpoint, twice)


def test_excluded_names_are_not_looked_at(tmp_path: Path) -> None:
    found = {**tensors(), "visual.layers.0.mlp.experts.0.w": tensor("F32", 1)}
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "m", CONFIG, found))
    architecture = find_architecture(checkpoint.config)
    import re

    excluding = dataclasses.replace(architecture, exclude=re.compile(r"^visual\."))
    assert "visual.layers.0.mlp.experts.0.w" in resolve(checkpoint, excluding).kept


def test_other_stacks_of_layers_are_not_mtp(tmp_path: Path) -> None:
    vision = {f"vision.encoder.layers.{i}.attn.weight": tensor("F32", 2) for i in range(9)}
    layout = resolved(tmp_path / "m", {**tensors(), **vision})
    assert layout.mtp_depth == 0
    assert not any(layout.is_mtp(name) for name in vision)


def test_a_stale_alias_is_refused(source: Callable[[str], Path], tmp_path: Path) -> None:
    config = json.loads((source("qwen3_moe") / "config.json").read_text())
    path = write_checkpoint(
        tmp_path / "m", {**config, "num_local_experts": 4}, read_all(source("qwen3_moe"))
    )
    with pytest.raises(CheckpointError, match="contradicts itself"):
        layout_of(path)


def test_a_part_that_another_one_may_stand_for(
    source: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = Checkpoint.open(source("deepseek_v4"))
    architecture = find_architecture(checkpoint.config)
    layers = resolve(checkpoint, architecture).layers.values()
    parts = [set(layer.parts.values()) & {"bias", "table"} for layer in layers]
    for layer, own in zip(layers, parts, strict=True):
        assert [table.name.endswith("gate.tid2eid") for table in layer.tables] == [True] * (
            "table" in own
        )
    assert {"bias"} in parts
    assert {"table"} in parts
    for what in ("layers.0.ffn.gate.tid2eid", "layers.1.ffn.gate.bias"):
        (name,) = [each for each in checkpoint.tensors if each.endswith(what)]
        left = {each: found for each, found in checkpoint.tensors.items() if each != name}
        lacking = dataclasses.replace(checkpoint, tensors=left)
        with pytest.raises(LayoutError, match="no tensor for the part '(bias|table)' or '"):
            resolve(lacking, architecture)
