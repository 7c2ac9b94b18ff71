import pytest

from easyep.architectures import spec
from easyep.architectures.router import Router
from easyep.errors import CheckpointError, UnknownNameError, UnsupportedModelError

DEEPSEEK = {
    "model_type": "deepseek_v3",
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_group": 8,
    "topk_group": 4,
    "num_hidden_layers": 61,
    "num_nextn_predict_layers": 1,
    "first_k_dense_replace": 3,
}
QWEN = {"model_type": "qwen3_moe", "num_experts_per_tok": 8, "num_hidden_layers": 4}


def test_all_families_are_there_and_describe_themselves() -> None:
    assert {"deepseek_v3", "gemma4", "gpt_oss", "mixtral", "qwen3_moe"} <= set(spec.names())
    for name in spec.names():
        architecture = spec.get(name)
        assert architecture.summary
        assert architecture.model_types
        assert architecture.refuse or architecture.routing["score"]


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mixtral'"):
        spec.get("mixtrall")


def test_the_numbers_of_deepseek_v3() -> None:
    architecture = spec.find_architecture(DEEPSEEK)
    assert architecture.name == "deepseek_v3"
    assert architecture.router(DEEPSEEK) == Router(256, 8, 8, 4, 61, 1)
    assert architecture.expected_moe_layers(DEEPSEEK) == tuple(range(3, 61))


def test_kimi_k2_is_of_the_family_and_has_no_groups() -> None:
    config = {**DEEPSEEK, "model_type": "kimi_k2", "n_group": 1, "topk_group": 1}
    config |= {"n_routed_experts": 384, "num_nextn_predict_layers": 0}
    assert spec.find_architecture(config).router(config) == Router(384, 8, 1, 1, 61, 0)


def test_silent_keys_mean_what_the_models_code_assumes() -> None:
    config = {key: DEEPSEEK[key] for key in ("model_type", "n_routed_experts")}
    config |= {"num_experts_per_tok": 8, "num_hidden_layers": 61}
    assert spec.find_architecture(config).router(config) == Router(256, 8, 8, 4, 61, 1)
    glm = {**config, "model_type": "glm4_moe"}
    assert spec.find_architecture(glm).router(glm) == Router(256, 8, 1, 1, 61, 1)


@pytest.mark.parametrize("section", ["text_config", "language_config", "llm_config"])
def test_the_language_model_may_be_nested(section: str) -> None:
    config = {"model_type": "something_vl", section: DEEPSEEK, "vision_config": {"depth": 2}}
    architecture = spec.find_architecture(config)
    assert architecture.name == "deepseek_v3"
    assert architecture.section(config) == (section,)
    assert architecture.router(config).num_experts == 256


def test_deepseek_v2_has_groups_only_with_its_grouped_method() -> None:
    config = {**DEEPSEEK, "model_type": "deepseek_v2", "n_routed_experts": 160}
    config |= {"topk_group": 3, "topk_method": "group_limited_greedy"}
    architecture = spec.find_architecture(config)
    assert architecture.router(config) == Router(160, 8, 8, 3, 61, 0, group_best=1)
    assert architecture.router({**config, "topk_method": "greedy"}).n_group == 1
    nulls = {**config, "topk_method": "greedy", "n_group": None, "topk_group": None}
    assert architecture.router(nulls).n_group == 1


def test_layers_of_qwen_follow_their_keys() -> None:
    config = {**QWEN, "num_experts": 16, "decoder_sparse_step": 2, "mlp_only_layers": [3]}
    assert spec.find_architecture(config).expected_moe_layers(config) == (1,)
    with pytest.raises(CheckpointError, match="mlp_only_layers is 3, expected list"):
        spec.find_architecture(config).expected_moe_layers({**config, "mlp_only_layers": 3})


def test_aliases_that_agree_are_all_found() -> None:
    config = {**QWEN, "num_experts": 16, "num_local_experts": 16}
    architecture = spec.find_architecture(config)
    aliases = architecture.aliases(config, "num_experts")
    assert aliases == {("num_experts",): 16, ("num_local_experts",): 16}
    assert architecture.router(config).num_experts == 16


def test_aliases_around_the_section_are_found_too() -> None:
    config = {"model_type": "x", "num_experts": 16, "text_config": {**QWEN, "num_experts": 16}}
    architecture = spec.find_architecture(config)
    assert ("num_experts",) in architecture.aliases(config, "num_experts")


def test_aliases_that_disagree_are_refused() -> None:
    config = {**QWEN, "num_experts": 16, "num_local_experts": 8}
    with pytest.raises(
        CheckpointError, match="contradicts itself: num_experts = 16, num_local_experts = 8"
    ):
        spec.find_architecture(config).router(config)


@pytest.mark.parametrize("value", [True, "16", ["16"], [16, True], -1, 16.0, 10**12])
def test_counts_that_are_none_are_refused(value: object) -> None:
    config = {**QWEN, "num_experts": value, "num_local_experts": 16}
    with pytest.raises(CheckpointError, match="num_experts is .*whole number"):
        spec.find_architecture(config).router(config)


def test_a_missing_number_is_named() -> None:
    config = {"model_type": "mixtral", "num_local_experts": 8, "num_hidden_layers": 2}
    with pytest.raises(CheckpointError, match="none of num_experts_per_tok"):
        spec.find_architecture(config).router(config)


@pytest.mark.parametrize("kind", ["llama", "qwen3", None])
def test_dense_models_are_told_so(kind: str | None) -> None:
    with pytest.raises(
        UnsupportedModelError, match="has no routed experts.*another key.*adding-an-arch"
    ):
        spec.find_architecture({"model_type": kind, "num_hidden_layers": 2})


def test_a_dense_member_of_a_family_is_told_so() -> None:
    with pytest.raises(UnsupportedModelError, match="has no routed experts"):
        spec.find_architecture({"model_type": "deepseek_v2", "n_routed_experts": None})


def test_an_unknown_family_gets_a_suggestion() -> None:
    with pytest.raises(UnsupportedModelError, match=r"did you mean 'qwen3_moe'.*adding-an-arch"):
        spec.find_architecture({"model_type": "qwen3_moee", "num_experts": 16})


def test_a_count_may_be_a_list_of_equal_numbers() -> None:
    config = {**QWEN, "num_experts": [16, 16]}
    assert spec.find_architecture(config).router(config).num_experts == 16


def test_a_list_of_different_counts_is_refused() -> None:
    config = {**QWEN, "num_experts": [16, 8]}
    with pytest.raises(CheckpointError, match="needs the same number in every layer"):
        spec.find_architecture(config).router(config)


@pytest.mark.parametrize("more", [{}, {"num_experts": 8}])
def test_a_long_model_type_is_cut(more: dict[str, int]) -> None:
    with pytest.raises(UnsupportedModelError, match="model_type '1{100}'") as error:
        spec.find_architecture({"model_type": "1" * 5000, **more})
    assert len(str(error.value)) < 500
