"""From records to scores, and from several domains to one."""

import math

import numpy as np
import pytest

from easyep import mixing, scoring
from easyep.artifacts import Scores
from easyep.errors import ArtifactError, UnknownNameError
from tests import records


def test_all_layers_are_scored():
    seen = records.observations(layers=(1, 2, 5))
    scores = scoring.score(seen)
    assert sorted(scores.layers) == [1, 2, 5]
    assert scores.criterion == "easy-ep"
    assert scores.observations[0]["domain"] == "made-up"


def test_response_tokens_only():
    seen = records.observations(layers=(1,))
    record = seen.layers[1]
    scores = scoring.score(seen, "frequency", tokens="response")
    assert scores.layers[1].sum() == 2 * record.is_response.sum()


def test_a_misspelt_choice_of_tokens():
    with pytest.raises(UnknownNameError, match="did you mean 'response'"):
        scoring.score(records.observations(), tokens="responses")  # type: ignore[arg-type]


def test_no_response_token_is_an_error():
    seen = records.observations(layers=(1,))
    seen.layers[1].is_response[:] = False
    with pytest.raises(ArtifactError, match="no response token"):
        scoring.score(seen, tokens="response")


def test_mixing_is_the_weighted_mean_of_shares():
    one = records.scores({1: [1.0, 3.0, 0.0, 0.0]})
    other = records.scores({1: [0.0, 0.0, 50.0, 50.0]})
    mixed = mixing.mix([one, other], [1.0, 3.0])
    np.testing.assert_allclose(mixed.layers[1], [1 / 16, 3 / 16, 6 / 16, 6 / 16])
    assert [origin["weight"] for origin in mixed.observations] == [1.0, 3.0]


def test_a_single_domain_is_left_as_it_is():
    one = records.scores({1: [1.0, 3.0]})
    assert mixing.mix([one], [0.5]) is one


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (records.scores({1: [1.0, 2.0]}, criterion="reap"), "different criteria"),
        (records.scores({2: [1.0, 2.0]}), "different layers: only some have layer 1"),
        (records.scores({1: [-1.0, 2.0]}), "below 0"),
    ],
)
def test_what_cannot_be_mixed(other: Scores, message):
    with pytest.raises(ArtifactError, match=message):
        mixing.mix([records.scores({1: [1.0, 2.0]}), other], [1.0, 1.0])


@pytest.mark.parametrize("weights", [[1e308, 1e308], [5e-324, 5e-324], [3.0, 3.0]])
def test_only_the_ratio_of_weights_counts(weights):
    one, other = records.scores({1: [1.0, 3.0]}), records.scores({1: [4.0, 1.0]})
    mixed = mixing.mix([one, other], weights)
    np.testing.assert_allclose(mixed.layers[1], [(0.25 + 0.8) / 2, (0.75 + 0.2) / 2], rtol=1e-15)


@pytest.mark.parametrize(
    "weights", [[1.0], [0.0, 1.0], [-1.0, 1.0], [math.inf, 1.0], [math.nan, 1]]
)
def test_wrong_weights(weights):
    one = records.scores({1: [1.0, 2.0]})
    with pytest.raises(ArtifactError, match="weights"):
        mixing.mix([one, one], weights)


def test_a_record_is_needed_where_the_criterion_looks_at_one():
    with pytest.raises(ArtifactError, match="'easy-ep' looks at what the model did"):
        scoring.score(model="demo")


def test_weights_are_of_the_model_that_is_named():
    seen = records.observations()
    with pytest.raises(ArtifactError, match="'aimer' looks at weights: say of which model"):
        scoring.score(seen, "aimer")
    with pytest.raises(ArtifactError, match="needs the model"):
        scoring.score((), "random")
    with pytest.raises(ArtifactError, match="are of made-up, not of demo"):
        scoring.score(seen, "aimer", model="demo")
    assert scoring.score(seen, "random").layers.keys() == seen.layers.keys()


def test_pairs_keep_their_diagonal_as_scores():
    seen = records.observations(layers=(1,))
    scores = scoring.score(seen, "hope")
    np.testing.assert_array_equal(scores.pairs[1].diagonal(), scores.layers[1])
    assert not scoring.score(seen, "reap").pairs


def test_peaks_are_the_largest_norms():
    seen = records.observations(layers=(1,), experts=8)
    record = seen.layers[1]
    expected = [
        max(record.output_norms[record.expert_ids == expert].tolist(), default=0.0)
        for expert in range(8)
    ]
    np.testing.assert_array_equal(scoring.score(seen).peaks[1], expected)
    both = scoring.score([seen, records.observations(layers=(1,), seed=9)])
    assert (both.peaks[1] >= expected).all()


def test_max_min_keeps_each_domain():
    one, other = records.scores({1: [1.0, 3.0]}), records.scores({1: [4.0, 0.0]})
    mixed = mixing.mix([one, other], [1.0, 0.5], "max-min")
    assert mixed.mix == "max-min"
    assert [d.weight for d in mixed.domains] == [1.0, 0.5]
    np.testing.assert_array_equal(mixed.domains[1].layers[1], [4.0, 0.0])
    np.testing.assert_array_equal(mixed.layers[1], mixing.mix([one, other], [1.0, 0.5]).layers[1])


def test_mixed_pairs_are_shares_of_their_sum():
    seen = [records.observations(layers=(1,), seed=s) for s in (0, 1)]
    each = [scoring.score(one, "hope").pairs[1] for one in seen]
    mixed = scoring.score(seen, "hope", weights=[3.0, 1.0])
    expected = (3 * each[0] / each[0].sum() + each[1] / each[1].sum()) / 4
    np.testing.assert_allclose(mixed.pairs[1], expected, rtol=1e-14)
    with pytest.raises(ArtifactError, match="max-min"):
        scoring.score(seen, "hope", mix="max-min")
