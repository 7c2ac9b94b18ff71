"""HOPE's matrix against its definition, written as loops."""

import numpy as np

from easyep.criteria import CRITERIA, Layer
from tests.records import routed_tokens


def by_loops(tokens, experts: int) -> np.ndarray:
    costs = np.zeros((experts, experts))
    for i in range(experts):
        for j in range(experts):
            products = []
            for t in range(len(tokens)):
                routed = {
                    int(e): slot
                    for slot, e in enumerate(tokens.expert_ids[t])
                    if tokens.weights[t, slot]
                }
                if i in routed and j in routed:
                    a_i, a_j = (
                        float(tokens.weights[t, routed[e]])
                        * float(tokens.output_norms[t, routed[e]])
                        for e in (i, j)
                    )
                    products.append(a_i * a_j)
            costs[i, j] = sum(products) / len(products) if products else 0.0
    return costs


def test_pairs_are_the_means_of_products():
    tokens = routed_tokens(tokens=80, experts=7, k=3)
    found = CRITERIA["hope"].score(tokens, Layer(0, 9))
    np.testing.assert_allclose(found[:7, :7], by_loops(tokens, 7), rtol=1e-12)
    assert (found[7:] == 0).all()
    assert (found == found.T).all()


def test_routes_of_weight_0_were_not_taken():
    tokens = routed_tokens(tokens=80, experts=7, k=3)
    tokens.weights[::3, 2] = 0
    tokens.expert_ids[::3, 2] = 0
    found = CRITERIA["hope"].score(tokens, Layer(0, 7))
    np.testing.assert_allclose(found, by_loops(tokens, 7), rtol=1e-12)
