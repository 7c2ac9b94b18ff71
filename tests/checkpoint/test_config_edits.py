import json
from pathlib import Path
from typing import Any

import pytest

from easyep.architectures.router import Router
from easyep.architectures.spec import find_architecture
from easyep.checkpoint.config_edits import config_edits, edited
from easyep.checkpoint.renumbering import renaming
from easyep.errors import LayoutError

DEEPSEEK: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "n_routed_experts": 16,
    "num_local_experts": 16,
    "num_experts_per_tok": 2,
    "n_group": 4,
    "topk_group": 2,
    "topk_method": "noaux_tc",
    "num_hidden_layers": 2,
    "num_nextn_predict_layers": 1,
    "rms_norm_eps": 1e-06,
}
KEPT = {0: (1, 3), 1: (0, 2)}


def edits(config: dict[str, Any], flatten: bool = False, drop_mtp: bool = False) -> dict[Any, Any]:
    return config_edits(
        config,
        find_architecture(config),
        keep=8,
        flatten=flatten,
        drop_mtp=drop_mtp,
        rename=renaming(find_architecture(config), Router(16, 2, num_layers=2), KEPT),
    )


def test_every_alias_of_the_count_changes_and_nothing_else() -> None:
    assert edits(DEEPSEEK) == {("n_routed_experts",): 8, ("num_local_experts",): 8}


def test_the_count_changes_under_names_of_other_families_too() -> None:
    """Which the model's own code does not read; a program that does would take the old number."""
    echoed = {**DEEPSEEK, "num_experts": 16, "text_config": {"moe_num_experts": 16}}
    assert edits(echoed) == {
        **edits(DEEPSEEK),
        ("num_experts",): 8,
        ("text_config", "moe_num_experts"): 8,
    }
    others = {"num_experts": 24, "moe_num_experts": None, "vision_config": {"num_experts": 16}}
    assert edits({**DEEPSEEK, **others}) == edits(DEEPSEEK)
    listed = {"num_experts": [16, 16], "moe_num_experts": [16, 24]}
    assert edits({**DEEPSEEK, **listed}) == {**edits(DEEPSEEK), ("num_experts",): [8, 8]}
    for none in (True, [], [True], "16", {}):
        assert edits({**DEEPSEEK, "num_experts": none}) == edits(DEEPSEEK)


def test_flattening_sets_one_group_and_not_null() -> None:
    changed = edits(DEEPSEEK, flatten=True)
    assert changed[("n_group",)] == changed[("topk_group",)] == 1


def test_flattening_states_groups_that_the_configuration_leaves_to_the_code() -> None:
    silent = {key: value for key, value in DEEPSEEK.items() if "group" not in key}
    changed = edits(silent, flatten=True)
    assert changed[("n_group",)] == changed[("topk_group",)] == 1


def test_groups_that_do_not_matter_stay() -> None:
    v2 = {**DEEPSEEK, "model_type": "deepseek_v2", "topk_method": "greedy"}
    del v2["num_local_experts"]
    assert edits(v2, flatten=True) == {("n_routed_experts",): 8}


def test_dropping_mtp_sets_its_count_to_zero() -> None:
    assert edits(DEEPSEEK, drop_mtp=True)[("num_nextn_predict_layers",)] == 0


def test_where_no_mtp_layers_are_stated_none_are_dropped() -> None:
    silent = {
        "model_type": "minimax_m2",
        "num_local_experts": 16,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 2,
    }
    assert edits(silent, drop_mtp=True) == {("num_local_experts",): 8}


def test_counts_in_a_list_stay_a_list() -> None:
    """One number for each set of experts."""
    vision = {
        "model_type": "ernie4_5_moe_vl",
        "moe_num_experts": [16, 16],
        "moe_k": 2,
        "num_hidden_layers": 2,
    }
    assert edits(vision) == {("moe_num_experts",): [8, 8]}
    none = {**DEEPSEEK, "num_nextn_predict_layers": 0}
    assert ("num_nextn_predict_layers",) not in edits(none, drop_mtp=True)
    silent = {k: v for k, v in DEEPSEEK.items() if k != "num_nextn_predict_layers"}
    assert edits(silent, drop_mtp=True)[("num_nextn_predict_layers",)] == 0


def test_nested_configurations_change_where_they_state_it() -> None:
    config = {"model_type": "vl", "n_group": 4, "text_config": DEEPSEEK, "vision": {"n_group": 4}}
    assert edits(config, flatten=True) == {
        ("text_config", "n_routed_experts"): 8,
        ("text_config", "num_local_experts"): 8,
        ("n_group",): 1,
        ("text_config", "n_group"): 1,
        ("text_config", "topk_group"): 1,
    }


def test_the_text_differs_in_the_values_only() -> None:
    text = json.dumps({"text_config": DEEPSEEK, "model_type": "vl"}, indent=4)
    config = json.loads(text)
    before, after = text.splitlines(), edited(text, edits(config)).decode().splitlines()
    different = [(a.strip(), b.strip()) for a, b in zip(before, after, strict=True) if a != b]
    assert different == [
        ('"n_routed_experts": 16,', '"n_routed_experts": 8,'),
        ('"num_local_experts": 16,', '"num_local_experts": 8,'),
    ]


def quantised(**settings: Any) -> dict[str, Any]:
    return {**DEEPSEEK, "quantization_config": {"quant_method": "x", **settings}}


def test_names_of_experts_in_quantisation_settings_are_renumbered() -> None:
    config = quantised(
        ignore=[
            "lm_head",
            "model.layers.0.mlp.experts.0.up_proj",
            "model.layers.0.mlp.experts.3.up_proj",
            "model.layers.1.mlp.experts.2",
            "model.layers.2.mlp.experts.5.up_proj",  # an MTP layer that is dropped
            "re:.*mlp.experts.*",
            "model.layers.1.mlp.gate",
        ],
        layers={"model.layers.0.mlp.experts.1.up_proj": {"bits": 4}, "lm_head": {"bits": 8}},
    )
    assert edits(config)[("quantization_config",)] == {
        "quant_method": "x",
        "ignore": [
            "lm_head",
            "model.layers.0.mlp.experts.1.up_proj",
            "model.layers.1.mlp.experts.1",
            "re:.*mlp.experts.*",
            "model.layers.1.mlp.gate",
        ],
        "layers": {"model.layers.0.mlp.experts.0.up_proj": {"bits": 4}, "lm_head": {"bits": 8}},
    }


@pytest.mark.parametrize("key", ["quantization_config", "compression_config", "quantization"])
@pytest.mark.parametrize("path", [(), ("text_config",), ("thinker_config", "text_config")])
def test_quantisation_settings_lie_anywhere(path: tuple[str, ...], key: str) -> None:
    config: dict[str, Any] = {key: {"ignore": ["model.layers.1.mlp.experts.2.up_proj", "x"]}}
    for section in reversed(path):
        config = {section: config}
    assert edits({**DEEPSEEK, **config})[(*path, key)] == {
        "ignore": ["model.layers.1.mlp.experts.1.up_proj", "x"]
    }


def test_settings_without_expert_numbers_stay() -> None:
    assert ("quantization_config",) not in edits(quantised(ignore=["lm_head", "re:.*experts.*"]))


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        (
            r"re:model\.layers\.0\.mlp\.experts\.3\.up_proj",
            r"re:model\.layers\.0\.mlp\.experts\.1\.up_proj",
        ),
        (r"-:^model\.layers\.1\.mlp\.experts\.2\..*", r"-:^model\.layers\.1\.mlp\.experts\.1\..*"),
        (r"+:model.layers.0.mlp.experts.3.up_proj$", r"+:model.layers.0.mlp.experts.1.up_proj$"),
        (r"re:.*\.layers\.0\.mlp\.experts\.2\.up_proj", None),
        (f"model.layers.0.mlp.experts.{'9' * 5000}.up_proj", None),
        *(
            (same, same)
            for same in (r"re:.*\.experts\.\d+\..*", "re:.*experts.[0-9]+.*", r"re:experts\.[0-9]$")
        ),
    ],
)
def test_patterns_that_name_one_expert_are_renumbered(name: str, renamed: str | None) -> None:
    config = quantised(dynamic={"x": {}, name: {"bits": 8}})
    expected = {"x": {}, **({renamed: {"bits": 8}} if renamed else {})}
    changed = edits(config).get(("quantization_config",), config["quantization_config"])
    assert changed["dynamic"] == expected


@pytest.mark.parametrize("name", ["experts.3.up_proj", r"re:.*\.0\.mlp\.experts\.(1|3)\..*"])
def test_names_that_cannot_be_followed_are_refused(name: str) -> None:
    with pytest.raises(LayoutError, match=r"names the expert .* cannot renumber"):
        edits(quantised(ignore=[name]))


def test_families_configurations_are_json_files(tmp_path: Path) -> None:
    text = json.dumps(DEEPSEEK)
    changed = json.loads(edited(text, edits(DEEPSEEK, flatten=True, drop_mtp=True)))
    assert list(changed) == list(DEEPSEEK)
    assert {key for key in changed if changed[key] != DEEPSEEK[key]} == {
        *("n_routed_experts", "num_local_experts", "n_group", "topk_group"),
        "num_nextn_predict_layers",
    }
