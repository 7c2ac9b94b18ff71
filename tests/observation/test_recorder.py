"""The recorder against a float64 reference, and against the model without it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from easyep.artifacts import TokenSequence
from easyep.criteria import CRITERIA, Layer
from easyep.errors import ObservationError
from easyep.loading import load_model
from easyep.observation.device_record import DeviceRecord
from easyep.observation.in_memory import observe_in_memory
from easyep.observation.recorder import Recorder
from easyep.observation.shift import residual_shift
from easyep.resources import demo_model
from tests.observation import reference
from tests.tiny_models import build

THREE = ("deepseek_v3", "qwen3_moe", "mixtral")
OBSERVED = (*THREE, "deepseek_v2", "glm4_moe", "gpt_oss", "olmoe", "qwen2_moe")


def sequence(length: int, vocabulary: int, seed: int = 0, response_from: int = 0) -> TokenSequence:
    ids = np.random.default_rng(seed).integers(2, vocabulary, length)
    return TokenSequence(ids, np.arange(length) >= response_from)


@pytest.fixture(scope="module", params=[*THREE, "demo"])
def model(request, tmp_path_factory):
    if request.param == "demo":
        return load_model(demo_model(), dtype="float32", device="cpu")
    path = build(request.param, tmp_path_factory.mktemp(request.param) / "model")
    return load_model(path, dtype="float32", device="cpu")


def test_record_and_scores_equal_the_float64_reference(model):
    demo = sequence(48, model.config.vocab_size)
    exact = copy.deepcopy(model).double()
    exact.set_experts_implementation("eager")
    expected = reference.records(exact, torch.from_numpy(demo.input_ids))
    found = observe_in_memory(model, [demo])
    assert found.keys() == expected.keys()
    for index, record in found.items():
        order = np.argsort(record.expert_ids, axis=1)
        ids = np.take_along_axis(record.expert_ids, order, axis=1)
        assert np.array_equal(ids, expected[index]["expert_ids"].numpy())
        for name in ("weights", "output_norms"):
            values = np.take_along_axis(getattr(record, name), order, axis=1)
            np.testing.assert_allclose(values, expected[index][name].numpy(), rtol=1e-4)
        shift = expected[index]["residual_shift"].numpy()
        np.testing.assert_allclose(record.residual_shift, shift, rtol=1e-3, atol=1e-9)
        count = model.config.num_local_experts
        scores = CRITERIA["easy-ep"].score(record, Layer(index, count))
        np.testing.assert_allclose(
            scores, reference.easy_ep(expected[index], count), rtol=1e-4, atol=1e-12
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", OBSERVED)
def test_recording_leaves_the_logits_bit_equal(family, dtype, tmp_path: Path):
    model = load_model(build(family, tmp_path / family), dtype=dtype, device="cpu")
    ids = torch.from_numpy(sequence(24, 64).input_ids)[None]
    records: dict[int, list[DeviceRecord]] = {}
    recorder = Recorder(
        dict(enumerate(model.get_decoder().layers)),
        lambda index, record: records.setdefault(index, []).append(record),
    )
    with torch.inference_mode():
        plain = model(ids).logits
        rows = [sequence(24, 64)]
        with recorder.attached(), recorder.batch([0], rows, first=0, width=24):
            observed = model(ids).logits
        after = model(ids).logits
    assert torch.equal(plain, observed)
    assert torch.equal(plain, after)
    assert sorted(records) == recorder.moe_layers
    assert all(len(record.fetch()) == 24 for (record,) in records.values())


def test_later_tokens_do_not_change_earlier_records(model):
    first = sequence(20, model.config.vocab_size)
    changed = TokenSequence(first.input_ids.copy(), first.is_response)
    changed.input_ids[12:] = sequence(8, model.config.vocab_size, seed=9).input_ids
    one, other = observe_in_memory(model, [first]), observe_in_memory(model, [changed])
    for index in one:
        assert np.array_equal(one[index].expert_ids[:12], other[index].expert_ids[:12])
        np.testing.assert_allclose(
            one[index].residual_shift[:12], other[index].residual_shift[:12], rtol=1e-3, atol=1e-8
        )
    assert any(not np.array_equal(one[i].expert_ids[12:], other[i].expert_ids[12:]) for i in one)


def test_small_shifts_keep_their_digits():
    torch.manual_seed(0)
    before = torch.randn(64, 256, dtype=torch.float64)
    for size in (0.3, 0.01, 0.001):
        routed = size * torch.randn(64, 256, dtype=torch.float64)
        exact = 1 - torch.nn.functional.cosine_similarity(before, before + routed, dim=-1)
        found = residual_shift(before.float(), routed.float())
        assert torch.allclose(found.double(), exact, rtol=1e-4, atol=0)
        assert (found >= 0).all()


def test_the_shift_of_zero_vectors():
    zero, one = torch.zeros(1, 4), torch.ones(1, 4)
    assert residual_shift(zero, one).item() == residual_shift(one, -one).item() == 1
    assert residual_shift(zero, zero).item() == 0
    assert residual_shift(one, -2 * one).item() == 2


def test_a_layer_that_scales_what_it_adds_is_understood(tmp_path: Path):
    model = load_model(build("mixtral", tmp_path / "m"), dtype="float32", device="cpu")
    plain = observe_in_memory(model, [sequence(8, 64)])[2]
    layer = model.model.layers[2]
    layer.register_forward_hook(lambda module, args, output: output * 1.5)
    scaled = observe_in_memory(model, [sequence(8, 64)])[2]
    np.testing.assert_allclose(scaled.residual_shift, plain.residual_shift, rtol=1e-4)
    assert np.array_equal(scaled.weights, plain.weights)


def test_a_layer_that_cannot_be_explained_is_refused(tmp_path: Path):
    model = load_model(build("mixtral", tmp_path / "m"), dtype="float32", device="cpu")
    layer = model.model.layers[1]
    layer.register_forward_hook(lambda module, args, output: output.square())
    with pytest.raises(ObservationError, match="layer 1 .*could not be found out"):
        observe_in_memory(model, [sequence(8, 64)])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_told(tmp_path: Path, number: float):
    model = load_model(build("mixtral", tmp_path / "m"), dtype="float32", device="cpu")
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[0] = number
    with pytest.raises(
        ObservationError, match=r"layer 1 \(Mixtral.* not finite.* float32 .*--dtype"
    ):
        observe_in_memory(model, [sequence(8, 64)])


def test_a_model_without_routed_experts_is_refused():
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    dense = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ObservationError, match="no routed experts"):
        observe_in_memory(dense, [sequence(8, 32)])
