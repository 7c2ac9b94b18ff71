"""What the configurations of released models mean: experts, top-k, groups, layers."""

from typing import Any

import pytest

from easyep.architectures import spec
from easyep.architectures.router import Router
from easyep.errors import CheckpointError, UnsupportedModelError

SPARSE = ["sparse"]
DENSE = ["dense"]


def stated(num_experts: str, experts: int, top_k: str, k: Any, layers: int, **more: Any) -> Any:
    return {num_experts: experts, top_k: k, "num_hidden_layers": layers, **more}


GEMMA = stated("num_experts", 128, "top_k_experts", 8, 30, enable_moe_block=True)
GRANITE = stated("num_local_experts", 72, "num_experts_per_tok", 10, 40)
GLM = {"n_group": 1, "topk_group": 1}
KIMI = {"num_expert_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
LLAMA = stated("num_local_experts", 128, "num_experts_per_tok", 1, 48)


# model_type, what the section with the experts says, the section's path, numbers, MoE layers
@pytest.mark.parametrize(
    ("model_type", "section", "config", "router", "layers"),
    [
        ("gemma4", "text_config", GEMMA, Router(128, 8, num_layers=30), range(30)),
        ("diffusion_gemma", "text_config", GEMMA, Router(128, 8, num_layers=30), range(30)),
        (
            "glm4_moe_lite",
            "",
            stated("n_routed_experts", 64, "num_experts_per_tok", 4, 47, **GLM)
            | {"first_k_dense_replace": 1, "num_nextn_predict_layers": 1},
            Router(64, 4, num_layers=47, mtp_layers=1),
            range(1, 47),
        ),
        (
            "glm4v_moe",
            "text_config",
            stated("n_routed_experts", 128, "num_experts_per_tok", 8, 46, **GLM)
            | {"first_k_dense_replace": 1, "num_local_experts": 128},
            Router(128, 8, num_layers=46),
            range(1, 46),
        ),
        (
            "glm_moe_dsa",
            "",
            stated("n_routed_experts", 256, "num_experts_per_tok", 8, 78)
            | {"first_k_dense_replace": 3, "num_nextn_predict_layers": 1},
            Router(256, 8, num_layers=78, mtp_layers=1),
            range(3, 78),
        ),
        (
            "glm5_next",
            "text_config",
            stated("n_routed_experts", 288, "num_experts_per_tok", 8, 45)
            | {"mlp_layer_types": DENSE * 3 + SPARSE * 42, "num_nextn_predict_layers": 1},
            Router(288, 8, num_layers=45, mtp_layers=1),
            range(3, 45),
        ),
        (
            "openai_privacy_filter",
            "",
            stated("num_local_experts", 128, "num_experts_per_tok", 4, 8),
            Router(128, 4, num_layers=8),
            range(8),
        ),
        ("granitemoehybrid", "", GRANITE, Router(72, 10, num_layers=40), range(40)),
        ("granitemoe_swa", "", GRANITE, Router(72, 10, num_layers=40), range(40)),
        (
            "hunyuan_v1_moe",
            "",
            stated("num_experts", 64, "moe_topk", [8] * 32, 32),
            Router(64, 8, num_layers=32),
            range(32),
        ),
        (
            "hy_v3",
            "",
            stated("num_experts", 192, "num_experts_per_tok", 8, 80)
            | {"first_k_dense_replace": 1, "num_nextn_predict_layers": 1},
            Router(192, 8, num_layers=80, mtp_layers=1),
            range(1, 80),
        ),
        (
            "hy_v4",
            "",
            stated("n_routed_experts", 256, "num_experts_per_tok", 8, 34)
            | {"mlp_layer_types": DENSE + SPARSE * 33, "num_nextn_predict_layers": 1},
            Router(256, 8, num_layers=34, mtp_layers=1),
            range(1, 34),
        ),
        (
            "inkling_mm_model",
            "text_config",
            stated("n_routed_experts", 256, "num_experts_per_tok", 6, 66, dense_mlp_idx=2),
            Router(256, 6, num_layers=66),
            range(2, 66),
        ),
        (
            "inkling2",
            "text_config",
            stated("n_routed_experts", 384, "num_experts_per_tok", 8, 48),
            Router(384, 8, num_layers=48),
            range(48),
        ),
        (
            "jamba",
            "",
            stated("num_experts", 16, "num_experts_per_tok", 2, 32)
            | {"expert_layer_period": 2, "expert_layer_offset": 1},
            Router(16, 2, num_layers=32),
            range(1, 32, 2),
        ),
        (
            "jetmoe",
            "",
            stated("num_local_experts", 8, "num_experts_per_tok", 2, 24),
            Router(8, 2, num_layers=24),
            range(24),
        ),
        (
            "kimi_linear",
            "",
            stated("num_experts", 256, "num_experts_per_token", 8, 27, **KIMI),
            Router(256, 8, num_layers=27),
            range(1, 27),
        ),
        (
            "kimi_k25",
            "text_config",
            stated("n_routed_experts", 384, "num_experts_per_tok", 8, 61, **GLM)
            | {"model_type": "kimi_k2", "first_k_dense_replace": 1, "num_nextn_predict_layers": 0},
            Router(384, 8, num_layers=61),
            range(1, 61),
        ),
        (
            "kimi_k3",
            "text_config",
            stated("num_experts", 896, "num_experts_per_token", 16, 93, **KIMI)
            | {"model_type": "kimi_linear", "num_nextn_predict_layers": 0},
            Router(896, 16, num_layers=93),
            range(1, 93),
        ),
        (
            "kolibri1",
            "",
            stated("num_experts", 384, "num_experts_per_tok", 6, 50),
            Router(384, 6, num_layers=50),
            range(50),
        ),
        (
            "laguna",
            "",
            stated("num_experts", 256, "num_experts_per_tok", 8, 40)
            | {"mlp_layer_types": DENSE + SPARSE * 39, "mlp_only_layers": [0]},
            Router(256, 8, num_layers=40),
            range(1, 40),
        ),
        (
            "lfm2_moe",
            "",
            stated("num_experts", 32, "num_experts_per_tok", 4, 24, num_dense_layers=2),
            Router(32, 4, num_layers=24),
            range(2, 24),
        ),
        (
            "llama4",
            "text_config",
            {**LLAMA, "interleave_moe_layer_step": 2},
            Router(128, 1, num_layers=48),
            range(1, 48, 2),
        ),
        (
            "llama4",
            "text_config",
            {**LLAMA, "interleave_moe_layer_step": 2, "moe_layers": [1, 5, 40]},
            Router(128, 1, num_layers=48),
            (1, 5, 40),
        ),
        (
            "llada",
            "",
            stated("num_experts", 64, "num_experts_per_tok", 8, 16, moe_layer_freq=[0] + [1] * 15),
            Router(64, 8, num_layers=16),
            range(1, 16),
        ),
        (
            "llada2_moe",
            "",
            stated("num_experts", 256, "num_experts_per_tok", 8, 20)
            | {"n_group": 8, "topk_group": 4, "first_k_dense_replace": 1},
            Router(256, 8, 8, 4, num_layers=20),
            range(1, 20),
        ),
    ],
)
def test_the_numbers_of_released_models(
    model_type: str, section: str, config: dict[str, Any], router: Router, layers: Any
) -> None:
    whole = {"model_type": model_type, **({section: config} if section else config)}
    architecture = spec.find_architecture(whole)
    assert architecture.router(whole) == router
    assert architecture.expected_moe_layers(whole) == tuple(layers)


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        (stated("num_experts", 256, "num_experts_per_tok", 8, 40, model_type="laguna"), 39),
        (stated("num_experts", 192, "num_experts_per_tok", 8, 80, model_type="hy_v3"), 79),
        (stated("num_experts", 32, "num_experts_per_tok", 4, 24, model_type="lfm2_moe"), 22),
        (stated("num_experts", 256, "num_experts_per_token", 8, 27, model_type="kimi_linear"), 26),
        (stated("n_routed_experts", 64, "num_experts_per_tok", 4, 47, model_type="hy_v4"), 46),
        (stated("num_experts", 16, "num_experts_per_tok", 2, 32, model_type="jamba"), 16),
        ({**LLAMA, "model_type": "llama4_text"}, 48),
    ],
)
def test_silent_keys_mean_what_the_configuration_classes_assume(
    config: dict[str, Any], layers: int
) -> None:
    found = spec.find_architecture(config).expected_moe_layers(config)
    assert found is not None
    assert len(found) == layers
    assert found[-1] == config["num_hidden_layers"] - 1


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gemma4", "text_config": {"num_experts": None, "enable_moe_block": False}},
        {"model_type": "granitemoehybrid", "num_local_experts": 0},
        {"model_type": "llada", "n_layers": 32},
    ],
)
def test_dense_members_of_these_families(config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match="no routed experts"):
        spec.find_architecture(config)


def test_a_top_k_that_differs_between_layers_is_refused() -> None:
    config = stated("num_experts", 64, "moe_topk", [8, 4], 2, model_type="hunyuan_v1_moe")
    with pytest.raises(CheckpointError, match="same number"):
        spec.find_architecture(config).router(config)
