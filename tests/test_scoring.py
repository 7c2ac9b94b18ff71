"""From records to scores, and from several domains to one."""

import numpy as np
import pytest

from easyep import scoring
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
    mixed = scoring.mix([one, other], [1.0, 3.0])
    np.testing.assert_allclose(mixed.layers[1], [1 / 16, 3 / 16, 6 / 16, 6 / 16])
    assert [origin["weight"] for origin in mixed.observations] == [1.0, 3.0]


def test_a_single_domain_is_left_as_it_is():
    one = records.scores({1: [1.0, 3.0]})
    assert scoring.mix([one], [0.5]) is one


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (records.scores({1: [1.0, 2.0]}, criterion="reap"), "different criteria"),
        (records.scores({2: [1.0, 2.0]}), "different criteria or layers"),
        (records.scores({1: [-1.0, 2.0]}), "below 0"),
    ],
)
def test_what_cannot_be_mixed(other: Scores, message):
    with pytest.raises(ArtifactError, match=message):
        scoring.mix([records.scores({1: [1.0, 2.0]}), other], [1.0, 1.0])


@pytest.mark.parametrize("weights", [[1.0], [0.0, 1.0], [-1.0, 1.0]])
def test_wrong_weights(weights):
    one = records.scores({1: [1.0, 2.0]})
    with pytest.raises(ArtifactError, match="weights"):
        scoring.mix([one, one], weights)
