"""What docs/adding-a-criterion.md says works, and names every criterion."""

import re

import numpy as np
import pytest

import easyep
from easyep.criteria import BUILT_IN, CRITERIA, Layer
from tests.criteria.test_family import FORMULAS, by_loops
from tests.criteria.test_weights import Made
from tests.records import observations, routed_tokens


@pytest.fixture
def page(root) -> str:
    return (root / "docs" / "adding-a-criterion.md").read_text()


@pytest.fixture
def examples(page, tmp_path, monkeypatch):
    """The names that the page's Python blocks define, run in the order of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CRITERIA, "_things", dict(CRITERIA._things))
    observations().save("observations")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(block, names)
    return names


def test_the_function(examples):
    tokens = routed_tokens()
    found = CRITERIA["louder"].score(tokens, Layer(0, 8))
    np.testing.assert_allclose(found, by_loops(tokens, 8, 1, 1, 2, 0), rtol=1e-6)
    assert examples["scores"].criterion == "louder"


def test_the_class(examples):
    tokens = routed_tokens(experts=8)
    tokens.weights[5:30, 0] = 0  # no routes: they stand for nothing
    taken = zip(tokens.demo, tokens.expert_ids, tokens.weights, strict=True)
    routes = {(int(d), int(e)) for d, ids, gs in taken for e, g in zip(ids, gs, strict=True) if g}
    expected = [sum(e == expert for _, expert in routes) for e in range(9)]
    nothing = examples["Breadth"]().score(routed_tokens(tokens=0, experts=8), Layer(0, 9))
    assert nothing.tolist() == [0] * 9
    assert CRITERIA["breadth"].score(tokens, Layer(0, 9)).tolist() == expected
    assert easyep.score(observations(), "breadth").criterion == "breadth"


def test_the_weights(examples):
    made = Made()
    found = CRITERIA["magnitude"].score_weights(made, Layer(0, 4))
    for pieces, score in zip(made.pieces, found, strict=True):
        numbers = [abs(float(v)) for piece in pieces for v in piece.ravel()]
        assert score == pytest.approx(sum(numbers) / len(numbers), rel=1e-6)


def test_the_table_names_every_criterion_and_its_exponents(page):
    table = dict(re.findall(r"^\| `([\w-]+)` \| (.+?) \| ", page, re.M))
    assert set(table) == BUILT_IN
    for name, exponents in FORMULAS.items():
        assert table[name] == str(exponents)
