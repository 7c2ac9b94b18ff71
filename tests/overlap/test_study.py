"""Overlaps of kept sets, against selections made one by one."""

from dataclasses import replace

import numpy as np
import pytest

import easyep
from easyep.artifacts import ObservedDemo
from easyep.criteria import CRITERIA
from easyep.errors import ArtifactError
from easyep.overlap.sampling import samples_of
from tests import records


def observed(seed=0, demos=6, experts=12, domain="made-up"):
    """An observation whose every demonstration has 15 tokens."""
    one = records.observations(experts=experts, seed=seed, domain=domain)
    layers = {}
    for index in one.layers:
        record = records.routed_tokens(tokens=15 * demos, experts=experts, seed=seed + index)
        layers[index] = replace(record, demo=np.repeat(np.arange(demos, dtype=np.int32), 15))
    told = tuple(ObservedDemo(str(i) * 64, 15, 5) for i in range(demos))
    return replace(one, demos=told, layers=layers)


def chosen(one, demos, keep, criterion="easy-ep"):
    """Kept experts per layer if only these demonstrations had been shown."""
    shown = {i: r.where(np.isin(r.demo, demos)) for i, r in one.layers.items()}
    return easyep.select(easyep.score(replace(one, layers=shown), criterion), keep).layers


def overlap(one, other, keep) -> float:
    return float(np.mean([len(set(one[i]) & set(other[i])) / keep for i in one]))


@pytest.mark.parametrize("criterion", ["easy-ep", "reap", "hope"])
def test_samples_are_what_their_demonstrations_would_have_chosen(criterion):
    one = observed()
    found = easyep.stability([one], criterion, keep=[4], demonstrations=[1, 3], samples=5, seed=7)
    whole = chosen(one, range(6), 4, criterion)
    drawn = list(samples_of(6, [1, 3], 5, [7, 0]))
    for row, size in zip(found.by_number, (1, 3), strict=False):
        mine = [(a, b) for a, b in drawn if len(a) == size]
        assert len(mine) == 5
        with_all = [overlap(chosen(one, a, 4, criterion), whole, 4) for a, _ in mine]
        apart = [
            overlap(chosen(one, a, 4, criterion), chosen(one, b, 4, criterion), 4) for a, b in mine
        ]
        assert (row.set, row.keep, row.demos, row.samples) == ("made-up", 4, size, 5)
        assert row.overlap == pytest.approx(np.mean(with_all))
        assert row.spread == pytest.approx(np.std(with_all))
        assert row.disjoint == pytest.approx(np.mean(apart))
    assert (found.by_number[-1].demos, found.by_number[-1].overlap) == (6, 1.0)


def test_a_criterion_without_sums_gives_the_same(monkeypatch):
    class Plain:
        summary = "As easy-ep, from all tokens at once."

        def score(self, tokens, layer):
            return CRITERIA["easy-ep"].score(tokens, layer)

    monkeypatch.setattr(CRITERIA, "_things", {**CRITERIA._things, "plain": Plain()})
    one = observed()
    summed, plain = (easyep.stability([one], name, keep=[4]) for name in ("easy-ep", "plain"))
    assert plain.by_number == summed.by_number


def test_samples():
    drawn = list(samples_of(10, [2, 7, 10, 25, 2], 3, [0]))
    assert [len(a) for a, _ in drawn] == [2, 2, 2, 7, 7, 7]
    assert all(len(set(a)) == len(a) and not set(a) & set(b) for a, b in drawn)
    assert all((len(b) == 2) == (len(a) == 2) for a, b in drawn)
    assert drawn == list(samples_of(10, [2, 7], 3, [0]))
    assert drawn != list(samples_of(10, [2, 7], 3, [1]))


def test_between_sets():
    one, same, other = observed(0), observed(0), observed(50, domain="other")
    found = easyep.stability([one, same, other], keep=[4, 6], demonstrations=[1], samples=1)
    assert [s.name for s in found.sets] == ["made-up (1)", "made-up (2)", "other"]
    by_pair = {(pair.sets, pair.keep): pair for pair in found.between}
    twins = by_pair[("made-up (1)", "made-up (2)"), 6]
    assert (twins.overlap, twins.same_domain) == (1.0, True)
    pair = by_pair[("made-up (1)", "other"), 4]
    mine, theirs = chosen(one, range(6), 4), chosen(other, range(6), 4)
    assert pair.overlap == pytest.approx(overlap(mine, theirs, 4))
    assert not pair.same_domain
    assert pair.least == min(len(set(mine[i]) & set(theirs[i])) / 4 for i in mine)
    assert len(found.between) == 6


def test_domains_can_be_named():
    sets = [observed(0, domain="gsm8k"), observed(1, domain="aime"), observed(2, domain="mbpp")]
    found = easyep.stability(sets, domains=["math", "math", "code"], keep=[4], demonstrations=[1])
    assert [pair.same_domain for pair in found.between] == [True, False, False]


def test_what_cannot_be_studied():
    one = observed()
    with pytest.raises(ArtifactError, match="at least one"):
        easyep.stability([])
    with pytest.raises(ArtifactError, match="does not look at what was observed"):
        easyep.stability([one], "router-norm")
    with pytest.raises(ArtifactError, match="several models"):
        easyep.stability([one, replace(one, model=replace(one.model, weights_sha256="0" * 64))])
    with pytest.raises(ArtifactError, match="same layers"):
        easyep.stability([one, replace(one, layers={1: one.layers[1]})])
    with pytest.raises(ArtifactError, match="2 domains were named for 1"):
        easyep.stability([one], domains=["a", "b"])
    for wrong in ({"seed": -1}, {"samples": 2.5}, {"demonstrations": [2, 0]}):
        with pytest.raises(ArtifactError, match=next(iter(wrong))):
            easyep.stability([one], **wrong)
