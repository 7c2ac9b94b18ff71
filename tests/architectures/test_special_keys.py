"""What is special in the configurations of single families, as released models state it."""

from typing import Any

import pytest

from easyep.architectures import spec
from easyep.checkpoint.config_edits import config_edits
from easyep.errors import CheckpointError, UnsupportedModelError

FEW = {"num_experts_per_tok": 2, "num_hidden_layers": 5}


def expected_layers(config: dict[str, Any]) -> tuple[int, ...] | None:
    return spec.find_architecture(config).expected_moe_layers(config)


@pytest.mark.parametrize(
    "layers",
    [
        {"hybrid_override_pattern": "MEM*E", "num_hidden_layers": 5},
        {"hybrid_override_pattern": "MEM*E"},
        {"layers_block_type": ["mamba", "moe", "mlp", "attention", "moe"]},
    ],
)
def test_nemotron_h_has_a_letter_or_a_name_for_each_layer(layers: dict[str, Any]) -> None:
    config = {"model_type": "nemotron_h", "n_routed_experts": 8, "num_experts_per_tok": 2}
    assert expected_layers(config | layers) == (1, 4)
    assert spec.find_architecture(config).router(config | layers).num_layers == 5
    with pytest.raises(CheckpointError, match="has none of num_hidden_layers"):
        spec.find_architecture(config).router(config)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({"moe_layers_enum": "1, 2"}, (1, 2)),
        ({"moe_layer_list": [4, 1]}, (1, 4)),
        ({"moe_layers_enum": "1,2", "mlp_layer_types": ["dense"] * 4 + ["sparse"] * 2}, (4,)),
        ({}, (3, 4)),
    ],
)
def test_step_lists_its_layers(layers: dict[str, Any], expected: tuple[int, ...]) -> None:
    text = {"model_type": "step3p5", "num_hidden_layers": 5, "moe_num_experts": 8, "moe_top_k": 2}
    assert expected_layers({"model_type": "step3p7", "text_config": text | layers}) == expected


@pytest.mark.parametrize("kind", ["mimo_v2_flash", "mimo_v2", "minimax_m3_vl"])
def test_a_flag_for_each_layer(kind: str) -> None:
    config = {"model_type": kind, "n_routed_experts": 8, "num_local_experts": 8, **FEW}
    assert expected_layers(config | {"moe_layer_freq": [0, 1, 1, 0, 1]}) == (1, 2, 4)


@pytest.mark.parametrize(
    ("stated", "declared"), [({}, 3), ({"num_nextn_predict_layers": 1}, 1)], ids=str
)
def test_mimo_counts_its_mtp_layers(stated: dict[str, int], declared: int) -> None:
    config = {"model_type": "mimo_v2", "n_routed_experts": 8, **FEW, **stated}
    architecture = spec.find_architecture(config)
    assert architecture.router(config).mtp_layers == declared
    edits = config_edits(
        config, architecture, keep=4, flatten=False, drop_mtp=True, rename=lambda name: name
    )
    assert edits == {("n_routed_experts",): 4, ("num_nextn_predict_layers",): 0}


def test_mistral_4_is_found_inside_of_mistral_3() -> None:
    text = {"model_type": "mistral4", "n_routed_experts": 8, "first_k_dense_replace": 2, **FEW}
    config = {"model_type": "mistral3", "text_config": text}
    assert spec.find_architecture(config).name == "mistral4"
    assert expected_layers(config) == (2, 3, 4)
    dense = {"model_type": "mistral3", "text_config": {"model_type": "mistral"}}
    with pytest.raises(UnsupportedModelError, match="no routed experts"):
        spec.find_architecture(dense)


def test_only_the_thinker_of_qwen3_omni_is_meant() -> None:
    thinker, talker = {"num_experts": 8, **FEW}, {"num_experts": 6, "num_local_experts": 6, **FEW}
    config = {
        "model_type": "qwen3_omni_moe",
        "thinker_config": {"text_config": thinker},
        "talker_config": {"text_config": talker},
    }
    architecture = spec.find_architecture(config)
    aliases = architecture.aliases(config, "num_experts")
    assert aliases == {("thinker_config", "text_config", "num_experts"): 8}


@pytest.mark.parametrize("kind", ["doge", "switch_transformers", "nllb-moe"])
def test_what_cannot_be_pruned_is_refused_with_the_reason(kind: str) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"'{kind}' cannot be pruned: its experts"):
        spec.find_architecture({"model_type": kind, "num_experts": 8, **FEW})


def test_dbrx_states_its_experts_one_level_down() -> None:
    numbers = {"moe_num_experts": 16, "moe_top_k": 4, "ffn_hidden_size": 10752}
    config = {"model_type": "dbrx", "ffn_config": numbers, "n_layers": 40}
    architecture = spec.find_architecture(config)
    router = architecture.router(config)
    assert (router.num_experts, router.top_k, router.num_layers) == (16, 4, 40)
    assert architecture.setting(config, "ffn_config.ffn_hidden_size") == 10752
    with pytest.raises(CheckpointError, match="needs a number there to find the experts' rows"):
        architecture.setting({**config, "ffn_config": {"moe_num_experts": 16}}, "ffn_hidden_size")


def test_flint_has_two_dense_layers_where_nothing_is_stated() -> None:
    config = {"model_type": "flint", "num_experts": 256, **FEW}
    assert expected_layers(config) == (2, 3, 4)
    assert expected_layers({**config, "mlp_only_layers": [0]}) == (1, 2, 3, 4)


def test_cohere_has_dense_layers_first_or_a_list() -> None:
    config = {"model_type": "cohere2_moe", "num_experts": 8, **FEW}
    assert expected_layers(config) == (0, 1, 2, 3, 4)
    assert expected_layers({**config, "first_k_dense_replace": 2}) == (2, 3, 4)
    types = ["dense", "sparse", "dense", "sparse", "sparse"]
    assert expected_layers({**config, "mlp_layer_types": types}) == (1, 3, 4)
