"""What configurations mean in families whose files build on DeepSeek's: groups, counts, layers."""

from typing import Any

import pytest

from easyep.architectures import spec
from easyep.architectures.router import Router
from easyep.errors import CheckpointError

GROUPS = {"n_group": 8, "topk_group": 4}
PLAIN = {"n_group": 1, "topk_group": 1}


def stated(num_experts: str, experts: Any, k: int, layers: int, **more: Any) -> dict[str, Any]:
    return {num_experts: experts, "num_experts_per_tok": k, "num_hidden_layers": layers, **more}


# model_type, what config.json says, numbers, layers with experts
@pytest.mark.parametrize(
    ("model_type", "config", "router", "layers"),
    [
        (
            "afmoe",
            stated("num_experts", 128, 8, 56, num_dense_layers=2, num_limited_groups=1, **PLAIN),
            Router(128, 8, num_layers=56),
            range(2, 56),
        ),
        (
            "axk1",
            stated("n_routed_experts", 192, 8, 61, first_k_dense_replace=1, moe_layer_freq=1),
            Router(192, 8, 8, 4, num_layers=61),
            range(1, 61),
        ),
        (
            "axk2",
            stated("n_routed_experts", 128, 8, 48, n_group=None, topk_group=None),
            Router(128, 8, num_layers=48),
            range(1, 48),
        ),
        (
            "bailing_hybrid",
            stated("num_experts", 512, 8, 42, first_k_dense_replace=2, **GROUPS)
            | {"num_nextn_predict_layers": 1},
            Router(512, 8, 8, 4, num_layers=42, mtp_layers=1),
            range(2, 42),
        ),
        (
            "bailing_hybrid",  # as transformers saves it
            {"num_experts": 512, "num_experts_per_token": 8, "num_hidden_layers": 42}
            | {"num_expert_group": 8, "topk_group": 4, "num_nextn_predict_layers": 1}
            | {"mlp_layer_types": ["dense"] * 2 + ["sparse"] * 40},
            Router(512, 8, 8, 4, num_layers=42, mtp_layers=1),
            range(2, 42),
        ),
        (
            "bailing_moe",
            stated("num_experts", 256, 8, 20, first_k_dense_replace=1, **GROUPS),
            Router(256, 8, 8, 4, num_layers=20),
            range(1, 20),
        ),
        ("bailing_moe", stated("num_experts", 64, 6, 28), Router(64, 6, num_layers=28), range(28)),
        (
            "beam",
            stated("num_experts", 256, 8, 52),
            Router(256, 8, 8, 4, num_layers=52),
            range(3, 52),
        ),
        (
            "deepseek_v32",
            stated("n_routed_experts", 256, 8, 61, first_k_dense_replace=3, **GROUPS)
            | {"num_nextn_predict_layers": 1},
            Router(256, 8, 8, 4, num_layers=61, mtp_layers=1),
            range(3, 61),
        ),
        (
            "deepseek_v4",
            stated("n_routed_experts", 256, 6, 43, num_hash_layers=3, num_nextn_predict_layers=1),
            Router(256, 6, num_layers=43, mtp_layers=1),
            range(43),
        ),
        (
            "dots1",
            stated("n_routed_experts", 128, 6, 62, first_k_dense_replace=1, **PLAIN),
            Router(128, 6, num_layers=62),
            range(1, 62),
        ),
        (
            "dots3_note",
            stated("n_routed_experts", 256, 8, 46, moe_layer_freq=[0] + [1] * 45),
            Router(256, 8, num_layers=46),
            range(1, 46),
        ),
        (
            "exaone_moe",
            stated("num_experts", 128, 8, 48, first_k_dense_replace=1, num_nextn_predict_layers=1),
            Router(128, 8, num_layers=48, mtp_layers=1),
            range(1, 48),
        ),
        (
            "ernie4_5_moe",
            {"moe_num_experts": 64, "moe_k": 6, "num_hidden_layers": 28}
            | {"moe_layer_start_index": 1, "moe_layer_end_index": 27, "moe_layer_interval": 1},
            Router(64, 6, num_layers=28),
            range(1, 28),
        ),
        (
            "ernie4_5_moe_vl",
            {"moe_num_experts": [64, 64], "moe_k": 6, "num_hidden_layers": 28}
            | {"moe_layer_start_index": [1, 1], "moe_layer_end_index": [29, 28]},
            Router(64, 6, num_layers=28),
            range(1, 28),
        ),
    ],
)
def test_the_numbers_of_released_models(
    model_type: str, config: dict[str, Any], router: Router, layers: range
) -> None:
    config = {"model_type": model_type, **config}
    architecture = spec.find_architecture(config)
    assert architecture.router(config) == router
    assert architecture.expected_moe_layers(config) == tuple(layers)


def test_the_experts_of_v41s_mtp_stages_are_no_name_of_the_count() -> None:
    text = stated("n_routed_experts", 384, 6, 40, num_nextn_predict_layers=3)
    config = {"model_type": "deepseek_v41", "text_config": {**text, "dspark_n_routed_experts": 128}}
    architecture = spec.find_architecture(config)
    assert architecture.router(config).num_experts == 384
    assert list(architecture.aliases(config, "num_experts")) == [
        ("text_config", "n_routed_experts")
    ]
    assert architecture.second is None


def test_the_two_sets_of_ernie_vl_must_lie_in_the_same_layers() -> None:
    config = {"model_type": "ernie4_5_moe_vl", "moe_num_experts": [64, 64], "moe_k": 6}
    config |= {"num_hidden_layers": 28, "moe_layer_start_index": [1, 2]}
    architecture = spec.find_architecture(config)
    with pytest.raises(CheckpointError, match="both sets of experts in the same layers"):
        architecture.expected_moe_layers(config)
    with pytest.raises(CheckpointError, match="the same number"):
        architecture.router({**config, "moe_num_experts": [64, 32]})


def test_numbers_stated_inside_and_around_are_both_found() -> None:
    """DeepSeek-OCR's configuration repeats the language model's numbers at its top level."""
    text = stated("n_routed_experts", 64, 6, 12, first_k_dense_replace=1)
    config = {"model_type": "deepseek_vl_v2", "language_config": dict(text), **text}
    architecture = spec.find_architecture(config)
    assert set(architecture.aliases(config, "num_experts")) == {
        ("n_routed_experts",),
        ("language_config", "n_routed_experts"),
    }
    assert architecture.expected_moe_layers(config) == tuple(range(1, 12))
    config["language_config"]["n_routed_experts"] = 32
    with pytest.raises(CheckpointError, match="contradicts itself"):
        architecture.router(config)
