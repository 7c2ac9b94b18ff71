"""Each member of the family against its formula, written as loops over Python floats."""

import numpy as np
import pytest

from easyep.criteria import CRITERIA, Layer, RecordCriterion
from tests.records import routed_tokens

FORMULAS = {  # name -> (b, alpha, beta, gamma) of S(b, alpha, beta, gamma)
    "frequency": (0, 0, 0, 0),
    "gating": (0, 1, 0, 0),
    "ean": (0, 0, 1, 0),
    "gated-norm": (0, 1, 1, 0),
    "gated-shift": (0, 1, 0, 1),
    "easy-ep": (0, 1, 1, 1),
    "squared": (0, 2, 2, 0),
    "reap": (1, 1, 1, 0),
    "man": (1, 0, 1, 0),
    "msan": (1, 0, 2, 0),
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


@pytest.mark.parametrize("name", [n for n in CRITERIA if isinstance(CRITERIA[n], RecordCriterion)])
def test_parts_of_a_record_add_up(name):
    tokens, layer = routed_tokens(tokens=50, experts=8, k=3), Layer(0, 8)
    method = CRITERIA[name]
    first = np.arange(50) < 17
    parts = method.sums(tokens.where(first), layer) + method.sums(tokens.where(~first), layer)
    np.testing.assert_allclose(method.from_sums(parts), method.score(tokens, layer), rtol=1e-12)
