"""Numbers from `config.json` are those of checkpoints."""

import json

import pytest

from easyep.architectures.spec import find_architecture
from easyep.checkpoint.inspection import inspect
from easyep.errors import CheckpointError, UnsupportedModelError
from easyep.evaluation.roofline.reading import FAMILIES, read_decoder
from tests.evaluation.roofline.true_shapes import deepseek_v3
from tests.tiny_models import FAMILIES as TINY
from tests.tiny_models import build


@pytest.fixture(scope="module")
def r1(root):
    return json.loads((root / "benchmarks/configs/deepseek-r1.json").read_text())


def test_parts_are_those_of_headers_with_true_shapes(r1, tmp_path):
    path = deepseek_v3(tmp_path / "m", r1, dense=3, moe=2)
    decoder = read_decoder(json.loads((path / "config.json").read_text()))
    assert decoder.parts == {part.name: part.bytes for part in inspect(path).parts}
    assert decoder.stored_bytes == inspect(path).bytes


def test_deepseek_r1_by_hand(r1):
    decoder = read_decoder(r1)
    assert (decoder.experts, decoder.top_k, decoder.moe_layers) == (256, 8, 58)
    # Three matrices of 2048 x 7168 in FP8, a float32 for each block of 128 x 128.
    assert decoder.expert_numbers == 3 * 2048 * 7168
    assert decoder.expert_bytes == 44_040_192 + 3 * 16 * 56 * 4
    # 512 + 64 numbers of two bytes in each of 61 layers.
    assert decoder.attention.cached(1) == 70_272
    # 671 billion weights and 37 billion active, as released.
    numbers = decoder.dense_numbers + 58 * 256 * (44_040_192 + 7168) + 2 * decoder.head_numbers
    assert numbers == pytest.approx(671e9, rel=1e-3)
    assert decoder.active_numbers + 2 * decoder.head_numbers == pytest.approx(37e9, rel=2e-2)
    half = decoder.pruned(128)
    assert decoder.stored_bytes - half.stored_bytes == 58 * 128 * (44_050_944 + 7168 * 2 + 4)
    assert half.dense_bytes == decoder.dense_bytes
    # transformers caches what the latent vectors are written out to.
    full = read_decoder(r1, latent_cache=False)
    assert full.attention.cached(1) == 61 * 128 * (128 + 64 + 128) * 2


# The tiny checkpoint's attention is not of the released shape.
BY_HAND = ("llada2_moe",)


@pytest.mark.parametrize("name", [name for name in TINY if name not in BY_HAND])
def test_parts_are_those_of_every_family_that_is_not_refused(name, tmp_path):
    path = build(name, tmp_path / "m")
    config = json.loads((path / "config.json").read_text())
    known = find_architecture(config).name in FAMILIES
    if not known or name == "granitemoehybrid":  # some of its layers are no attention
        with pytest.raises(UnsupportedModelError, match="no throughput can be predicted"):
            read_decoder(config)
        return
    decoder = read_decoder(config, dtype="float32")
    language = {
        part.name: part.bytes
        for part in inspect(path).parts
        if part.name not in ("MTP", "vision", "audio")
    }
    assert set(decoder.parts) == set(language)
    for part, nbytes in language.items():
        # Biases and norms of single heads are left out; they weigh nothing in a real model.
        assert decoder.parts[part] == pytest.approx(nbytes, rel=0.04), part


def test_llada2_by_hand():
    """LLaDA2.0-mini is called 16B-A1.4B."""
    config = {
        "model_type": "llada2_moe",
        "hidden_size": 2048,
        "num_hidden_layers": 20,
        "first_k_dense_replace": 1,
        "intermediate_size": 5120,
        "moe_intermediate_size": 512,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "num_shared_experts": 1,
        "n_group": 8,
        "topk_group": 4,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 157184,
        "torch_dtype": "bfloat16",
    }
    decoder = read_decoder(config)
    assert decoder.stored_bytes / 2 == pytest.approx(16.3e9, rel=1e-2)
    assert decoder.active_numbers + 2 * decoder.head_numbers == pytest.approx(1.4e9, rel=5e-2)
    assert decoder.attention.cached(1) == 20 * 2 * 4 * 128 * 2


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, 4 + 20 / 64),
        ({"quant_method": "fp8"}, 8),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 32}}},
            },
            4 + 16 / 32,
        ),
        (None, 16),
    ],
)
def test_quantised_experts(settings, bits):
    config = json.loads(json.dumps(MIXTRAL | {"quantization_config": settings}))
    decoder = read_decoder(config)
    numbers = 3 * 4096 * 14336
    scales = 4 * (2 * 14336 + 4096) if bits == 8 else 0  # one for each row
    assert decoder.expert_bytes == pytest.approx(numbers * bits / 8 + scales, rel=1e-12)
    assert decoder.head_numbers == 32000 * 4096


def test_mxfp4_touches_experts_only():
    plain = read_decoder(MIXTRAL)
    packed = read_decoder(MIXTRAL | {"quantization_config": {"quant_method": "mxfp4"}})
    assert packed.expert_bytes / plain.expert_bytes == pytest.approx(4.25 / 16)
    assert packed.dense_bytes == plain.dense_bytes


MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "intermediate_size": 14336,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "torch_dtype": "bfloat16",
}


def test_grouped_queries_and_windows():
    attention = read_decoder(MIXTRAL).attention
    assert attention.cached(100) == 100 * 32 * 2 * 8 * 128 * 2
    assert attention.operations(100) == 100 * 32 * 4 * 32 * 128
    kinds = ["sliding_attention", "full_attention"] * 16
    windowed = read_decoder(MIXTRAL | {"layer_types": kinds, "sliding_window": 10}).attention
    assert windowed.cached(100) == (16 * 100 + 16 * 10) * 2 * 8 * 128 * 2
    assert windowed.cached(5) == 5 * 32 * 2 * 8 * 128 * 2
    assert windowed.operations(100) == (16 * 100 + 16 * 10) * 4 * 32 * 128
    longer = read_decoder(MIXTRAL | {"layer_types": kinds[::2] * 3, "sliding_window": 10})
    assert longer.attention.cached(100) == 10 * 32 * 2 * 8 * 128 * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_types": ["linear_attention"] * 32}, "linear_attention in its layers"),
        ({"vocab_size": None}, "states no vocab_size"),
        ({"quantization_config": {"quant_method": "strange"}}, "the quantiser strange"),
        ({"torch_dtype": "int3"}, "for int3"),
        ({"num_key_value_heads": {"0": 8}}, "states no num_key_value_heads"),
        ({"vocab_size": 10**400}, "states no vocab_size"),
        ({"head_dim": None, "hidden_size": 8}, "states no head_dim"),
    ],
)
def test_what_cannot_be_told_is_refused(change, message):
    with pytest.raises(UnsupportedModelError, match=message):
        read_decoder(MIXTRAL | change)


@pytest.mark.parametrize(
    "settings",
    [
        "fp8",
        1.0,
        {"quant_method": "gptq", "bits": [4]},
        {"quant_method": "fp8", "weight_block_size": 1},
    ],
)
def test_quantisation_of_the_wrong_kind_is_refused(settings):
    with pytest.raises(CheckpointError, match="quantization_config"):
        read_decoder(MIXTRAL | {"quantization_config": settings})
