"""Batches, padding and MTP layers."""

import copy

import numpy as np
import pytest
import torch

from easyep.artifacts import TokenSequence
from easyep.errors import ObservationError
from easyep.loading import load_model
from easyep.observation.in_memory import observe_in_memory
from easyep.observation.multi_token import load_mtp
from easyep.resources import demo_model
from tests.observation import reference
from tests.observation.test_recorder import sequence
from tests.tiny_models import build


@pytest.fixture(scope="module")
def demo():
    return load_model(demo_model(), dtype="float32", device="cpu")


def demos(model, lengths=(17, 5, 30, 9, 22)) -> list[TokenSequence]:
    return [
        sequence(length, model.config.vocab_size, seed=i, response_from=length // 2)
        for i, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("batch_size", [2, 5])
def test_the_batch_size_changes_nothing_but_rounding(demo, batch_size):
    mtp = load_mtp(demo)
    one = observe_in_memory(demo, demos(demo), mtp=mtp)
    other = observe_in_memory(demo, demos(demo), mtp=mtp, batch_size=batch_size)
    for index, record in one.items():
        assert np.array_equal(record.expert_ids, other[index].expert_ids)
        assert np.array_equal(record.demo, other[index].demo)
        assert np.array_equal(record.is_response, other[index].is_response)
        for name in ("weights", "output_norms", "residual_shift"):
            np.testing.assert_allclose(
                getattr(record, name), getattr(other[index], name), rtol=2e-4, atol=1e-6
            )


def test_tokens_stand_in_demonstration_order(demo):
    found = observe_in_memory(demo, demos(demo), batch_size=2)
    record = found[1]
    assert record.demo.tolist() == [i for i, d in enumerate(demos(demo)) for _ in range(len(d))]
    expected = np.concatenate([d.is_response for d in demos(demo)])
    assert np.array_equal(record.is_response, expected)


def test_mtp_layers_see_all_but_the_first_token(demo):
    found = observe_in_memory(demo, demos(demo), mtp=load_mtp(demo), batch_size=3)
    last = demo.config.num_hidden_layers
    assert sorted(found) == [*range(1, last), last]
    lengths = [len(d) - 1 for d in demos(demo)]
    assert np.bincount(found[last].demo).tolist() == lengths
    expected = np.concatenate([d.is_response[1:] for d in demos(demo)])
    assert np.array_equal(found[last].is_response, expected)


def test_the_mtp_record_equals_the_float64_reference(demo):
    sequence = demos(demo)[2]
    mtp = load_mtp(demo)
    found = observe_in_memory(demo, [sequence], mtp=mtp)[demo.config.num_hidden_layers]
    exact, exact_mtp = copy.deepcopy(demo).double(), copy.deepcopy(mtp).double()
    for model in (exact, exact_mtp):
        model.set_experts_implementation("eager")
    expected = reference.mtp_record(exact, exact_mtp, torch.from_numpy(sequence.input_ids))
    order = np.argsort(found.expert_ids, axis=1)
    ids = np.take_along_axis(found.expert_ids, order, axis=1)
    assert np.array_equal(ids, expected["expert_ids"].numpy())
    for name in ("weights", "output_norms"):
        values = np.take_along_axis(getattr(found, name), order, axis=1)
        np.testing.assert_allclose(values, expected[name].numpy(), rtol=1e-4)
    np.testing.assert_allclose(found.residual_shift, expected["residual_shift"].numpy(), rtol=1e-3)


def test_a_demonstration_of_one_token_has_nothing_for_mtp(demo):
    found = observe_in_memory(demo, [sequence(1, 500), sequence(4, 500)], mtp=load_mtp(demo))
    assert found[demo.config.num_hidden_layers].demo.tolist() == [1, 1, 1]


def test_a_family_without_mtp_in_transformers_says_what_to_do(tmp_path):
    model = load_model(build("mixtral", tmp_path / "m"), dtype="float32", device="cpu")
    with pytest.raises(ObservationError, match="--mtp follow or --mtp drop"):
        load_mtp(model)


@pytest.mark.parametrize("nothing", [[], [TokenSequence(np.zeros(0, int), np.zeros(0, bool))]])
def test_nothing_to_run_is_refused(demo, nothing):
    with pytest.raises(ObservationError, match="no demonstrations"):
        observe_in_memory(demo, nothing)
