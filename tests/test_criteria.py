"""Each criterion against its formula, written as loops."""

import numpy as np
import pytest

import easyep
from easyep.criteria import BUILT_IN, CRITERIA, Layer
from easyep.errors import ArtifactError, UnknownNameError
from tests.records import observations, routed_tokens

FORMULAS = {  # name -> (b, alpha, beta, gamma) of S(b, alpha, beta, gamma)
    "frequency": (0, 0, 0, 0),
    "gating": (0, 1, 0, 0),
    "gated-norm": (0, 1, 1, 0),
    "easy-ep": (0, 1, 1, 1),
    "reap": (1, 1, 1, 0),
}


def by_loops(tokens, experts: int, b: int, alpha: int, beta: int, gamma: int) -> list[float]:
    totals, counts = [0.0] * experts, [0] * experts
    for t in range(len(tokens)):
        for slot, expert in enumerate(tokens.expert_ids[t]):
            g, e = float(tokens.weights[t, slot]), float(tokens.output_norms[t, slot])
            totals[expert] += g**alpha * e**beta * float(tokens.residual_shift[t]) ** gamma
            counts[expert] += 1
    return [t / max(n, 1) ** b for t, n in zip(totals, counts, strict=True)]


@pytest.mark.parametrize(("name", "exponents"), FORMULAS.items())
def test_family_members(name, exponents):
    tokens = routed_tokens(tokens=60, experts=12, k=3)
    expected = by_loops(tokens, 12, *exponents)
    found = CRITERIA[name].score(tokens, Layer(0, 12))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", list(FORMULAS))
def test_experts_that_no_token_reached_have_0(name):
    tokens = routed_tokens(experts=6)
    found = CRITERIA[name].score(tokens, Layer(0, 9))
    assert found.shape == (9,)
    assert (found[6:] == 0).all()


def test_random_depends_on_seed_and_layer_only():
    tokens, other = routed_tokens(seed=1), routed_tokens(seed=2)
    random = CRITERIA["random"]
    assert np.array_equal(
        random.score(tokens, Layer(3, 8, seed=5)), random.score(other, Layer(3, 8, seed=5))
    )
    assert not np.array_equal(
        random.score(tokens, Layer(3, 8, seed=5)), random.score(tokens, Layer(3, 8, seed=6))
    )
    assert not np.array_equal(
        random.score(tokens, Layer(3, 8, seed=5)), random.score(tokens, Layer(4, 8, seed=5))
    )


def test_a_criterion_of_ones_own():
    @easyep.criterion("my-criterion", reduce="mean")
    def mine(tokens):
        """Squares."""
        return tokens.weights**2 * tokens.output_norms

    tokens = routed_tokens()
    assert "my-criterion" in CRITERIA
    assert CRITERIA["my-criterion"].summary == "Squares."
    np.testing.assert_allclose(
        CRITERIA["my-criterion"].score(tokens, Layer(0, 8)),
        by_loops(tokens, 8, 1, 2, 1, 0),
        rtol=1e-6,
    )


def test_what_is_no_criterion():
    with pytest.raises(ValueError, match="is a criterion of easyep"):
        easyep.criterion("easy-ep")
    with pytest.raises(ValueError, match="reduce must be"):
        easyep.criterion("mine", reduce="max")  # type: ignore[arg-type]
    easyep.criterion("wrong-shape")(lambda tokens: tokens.residual_shift[:, None])
    with pytest.raises(ArtifactError, match=r"'wrong-shape' failed: .*\[40, 2\], not \[40, 1\]"):
        easyep.score(observations(), criterion="wrong-shape")


def test_an_unknown_criterion_suggests_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'easy-ep'"):
        CRITERIA["easyep"]


def test_every_criterion_says_what_it_is():
    assert all(CRITERIA[name].summary for name in BUILT_IN)
