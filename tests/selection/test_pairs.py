"""The quadratic program against brute force."""

import re

import numpy as np
import pytest

from easyep import scoring, selection
from easyep.criteria import CRITERIA, Layer
from easyep.progress import SILENT
from easyep.selection import choosing, pair_bound, pairs
from easyep.selection.pair_bound import lower_bound
from easyep.selection.pairs import by_swaps, least_costly, unavoidable
from tests import records
from tests.checkpoint.progress import Recorder
from tests.selection.choices import allowed, terms


def cost(costs, kept) -> float:
    dropped = [e for e in range(len(costs)) if e not in kept]
    return sum(float(costs[i, j]) for i in dropped for j in dropped)


def random_costs(experts: int, seed: int) -> np.ndarray:
    """Symmetric costs that no ranking of single experts minimises."""
    half = np.random.default_rng(seed).exponential(size=(experts, experts))
    return half + half.T


CASES = [
    terms(8, 3),
    terms(9, 4),
    terms(10, 5),
    terms(8, 4, n_group=2),
    terms(12, 6, n_group=3),
    terms(9, 4, protected=[0, 5], forbidden=[2]),
    terms(8, 4, n_group=2, protected=[1, 2], forbidden=[4, 5]),
    terms(6, 6),
    terms(7, 1),
]


@pytest.mark.parametrize("of", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_other_choice_costs_less(of, seed):
    costs = random_costs(len(of.protected), seed)
    kept = least_costly(costs, of)
    assert kept in set(allowed(of))
    least = min(cost(costs, choice) for choice in allowed(of))
    assert cost(costs, kept) == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("of", CASES, ids=range(len(CASES)))
def test_the_program_finds_it_without_the_swaps(of, monkeypatch):
    """The library's answer alone: the search is made to return the worst choice."""
    costs = random_costs(len(of.protected), 7)
    worst = max(allowed(of), key=lambda choice: cost(costs, choice))
    flags = np.ones(len(costs), dtype=bool)
    flags[list(worst)] = False
    monkeypatch.setattr(pairs, "by_swaps", lambda *_: flags)
    least = min(cost(costs, choice) for choice in allowed(of))
    assert cost(costs, least_costly(costs, of)) == pytest.approx(least, rel=1e-9)


def test_swaps_stay_within_the_terms_and_near_the_optimum():
    for seed in range(20):
        of = terms(10, 4, n_group=2, protected=[3], forbidden=[9])
        costs = random_costs(10, seed)
        kept = tuple(np.flatnonzero(~by_swaps(costs, of)).tolist())
        assert kept in set(allowed(of))
        least = min(cost(costs, choice) for choice in allowed(of))
        assert cost(costs, kept) <= 1.1 * least


def test_more_experts_than_the_program_takes(monkeypatch):
    monkeypatch.setattr(pairs, "_by_program", None)
    kept = least_costly(random_costs(160, 0), terms(160, 80, n_group=8))
    assert [sum(e // 20 == g for e in kept) for g in range(8)] == [10] * 8


def test_a_record_is_pruned_by_its_pairs():
    """From a record to a selection, against all 70 choices of 4 out of 8."""
    seen = records.observations(experts=8, layers=(1,))
    costs = CRITERIA["hope"].score(seen.layers[1], Layer(1, 8))
    chosen = selection.select(scoring.score(seen, "hope"), 4)
    least = min(cost(costs, choice) for choice in allowed(terms(8, 4)))
    assert cost(costs, chosen.layers[1]) == pytest.approx(least, rel=1e-12)
    assert chosen.criterion == "hope"


def test_several_budgets_are_nested():
    scores = scoring.score(records.observations(experts=12, layers=(1, 2)), "hope")
    large, small, middle = selection.nested(scores, [9, 3, 6])
    for layer in (1, 2):
        one, two, three = (set(s.layers[layer]) for s in (small, middle, large))
        assert one < two < three


def test_what_is_not_proven_is_said():
    said = []

    class Told:
        def task(self, title, total, unit):
            return SILENT.task(title, total, unit)

        def say(self, sentence):
            said.append(sentence)

    small = scoring.score(records.observations(experts=8, layers=(1,)), "hope")
    selection.select(small, 4, progress=Told())
    assert not said
    large = scoring.score(records.observations(experts=130, layers=(1,)), "hope")
    selection.select(large, 60, progress=Told())
    (sentence,) = said
    assert re.search(r"at least \d+\.\d% of what it costs", sentence)


def test_the_least_proven_layer_is_told(monkeypatch):
    """Of two layers; with exactly as many experts as are solved exactly nothing is said."""
    progress = Recorder()
    scores = scoring.score(records.observations(experts=8, layers=(1, 2)), "hope")
    monkeypatch.setattr(choosing, "PROVEN", 8)
    selection.select(scores, 4, progress=progress)
    assert not progress.said
    monkeypatch.setattr(choosing, "PROVEN", 7)
    monkeypatch.setattr(choosing, "unavoidable", lambda costs, kept, of: of.layer * 0.25)
    selection.select(scores, 4, progress=progress)
    assert "at least 25.0% of what it costs" in progress.said[0]
    monkeypatch.setattr(choosing, "unavoidable", lambda costs, kept, of: 1.0)
    selection.select(scores, 4, progress=progress)
    assert "at least 100.0% of what it costs" in progress.said[1]


@pytest.mark.parametrize("of", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_bound_is_below_every_choice(of, seed):
    costs = random_costs(len(of.protected), seed)
    least = min(cost(costs, choice) for choice in allowed(of))
    assert lower_bound(costs, of) <= least * (1 + 1e-12)


def test_the_bound_is_close_where_costs_are_convex():
    single = np.random.default_rng(0).exponential(size=160)
    costs, of = np.outer(single, single), terms(160, 80, n_group=8)
    assert unavoidable(costs, least_costly(costs, of), of) > 0.98
    assert unavoidable(np.zeros((160, 160)), range(80), of) == 1


def test_few_pairs_that_stand_out_do_not_spoil_the_bound():
    costs, of = 1 + 0.1 * random_costs(160, 0), terms(160, 80)
    odd = np.random.default_rng(1).integers(0, 160, (2, 40))
    costs[odd[0], odd[1]] = costs[odd[1], odd[0]] = 100
    kept = least_costly(costs, of)
    assert unavoidable(costs, kept, of) > 0.9
    assert pair_bound._relaxed(costs, of) < 0.7 * cost(costs, kept)  # without a cap
    np.fill_diagonal(costs, costs.diagonal() + 20)  # what an expert costs alone is not cut down
    assert unavoidable(costs, least_costly(costs, of), of) > 0.9


@pytest.mark.parametrize("found", [None, "worse", "better"])
def test_the_program_s_answer_is_taken_where_it_is_better(monkeypatch, found):
    costs, of = random_costs(6, 0), terms(6, 3)
    order = sorted(allowed(of), key=lambda choice: cost(costs, choice))

    def dropped(kept):
        return ~np.isin(np.arange(6), kept)

    answers = {"worse": dropped(order[-1]), "better": dropped(order[0])}
    monkeypatch.setattr(pairs, "by_swaps", lambda *_: dropped(order[5]))
    monkeypatch.setattr(pairs, "_by_program", lambda *_: answers.get(found))
    assert least_costly(costs, of) == (order[0] if found == "better" else order[5])


def test_up_to_a_size_the_program_is_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(pairs, "_by_program", lambda costs, of: asked.append(len(costs)))
    for experts in (pairs.PROVEN - 1, pairs.PROVEN, pairs.PROVEN + 1):
        least_costly(random_costs(experts, 0), terms(experts, experts - 3))
    assert asked == [pairs.PROVEN - 1, pairs.PROVEN]


def dropped_by_steps(costs, of) -> list[int]:
    """The search written plainly: the cost of every set that is looked at, from the beginning."""
    size = len(of.groups[0])
    dropped = set(np.flatnonzero(of.forbidden).tolist())
    free = [e for e in range(len(costs)) if not of.protected[e]]

    def of_group(experts, e) -> int:
        return sum(other // size == e // size for other in experts)

    def spent(experts) -> float:
        return sum(float(costs[i, j]) for i in experts for j in experts)

    while len(dropped) < len(costs) - of.keep:
        next_ones = [e for e in free if e not in dropped and of_group(dropped, e) < size - of.quota]
        dropped.add(min(next_ones, key=lambda e: spent({*dropped, e})))
    while True:
        swaps = [
            dropped - {back} | {out}
            for out in free
            for back in dropped
            if out not in dropped and not of.forbidden[back] and out // size == back // size
        ]
        better = min(swaps, key=spent, default=dropped)
        if spent(better) > spent(dropped) - 1e-9:
            return sorted(dropped)
        dropped = better


@pytest.mark.parametrize("of", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_search_takes_the_steps_that_it_says(of, seed):
    costs = random_costs(len(of.protected), seed)
    assert np.flatnonzero(by_swaps(costs, of)).tolist() == dropped_by_steps(costs, of)


def test_the_search_ends_where_nothing_costs_anything():
    assert by_swaps(np.zeros((6, 6)), terms(6, 4)).tolist() == [True, True, *[False] * 4]
    tiny = random_costs(6, 0) * 1e-300
    assert np.flatnonzero(by_swaps(tiny, terms(6, 3))).size == 3


def test_the_search_mends_a_wrong_beginning():
    """Expert 0 is the cheapest alone and dear with every other one."""
    costs = np.full((6, 6), 0.1)
    np.fill_diagonal(costs, 1.0)
    costs[0, 0], costs[0, 1:], costs[1:, 0] = 0.5, 5.0, 5.0
    for scale in (1e-200, 1, 1e200):
        assert np.flatnonzero(by_swaps(scale * costs, terms(6, 3))).tolist() == [1, 2, 3]


def test_the_program_is_solved_whatever_the_scale_of_the_costs():
    costs, of = random_costs(8, 5), terms(8, 4)
    least = min(allowed(of), key=lambda choice: cost(costs, choice))
    for scale in (1e-200, 1, 1e200):
        assert np.flatnonzero(~pairs._by_program(scale * costs, of)).tolist() == list(least)
    assert len(least_costly(np.zeros((8, 8)), of)) == 4


def test_what_is_unavoidable_is_the_bound_as_a_share_of_the_cost():
    costs, of = random_costs(8, 0), terms(8, 4)
    kept = max(allowed(of), key=lambda choice: cost(costs, choice))
    share = unavoidable(costs, kept, of)
    assert share == pytest.approx(lower_bound(costs, of) / cost(costs, kept))
    assert 0.1 < share < 1


def test_rounding_makes_no_more_than_everything_unavoidable(monkeypatch):
    costs = random_costs(6, 0)
    spent = cost(costs, (0, 1, 2))
    monkeypatch.setattr(pairs, "lower_bound", lambda *_: spent * (1 + 1e-12))
    assert unavoidable(costs, (0, 1, 2), terms(6, 3)) == 1


def test_among_equals_the_search_s_answer_is_taken(monkeypatch):
    monkeypatch.setattr(pairs, "_by_program", lambda *_: np.arange(6) >= 3)
    assert least_costly(np.ones((6, 6)), terms(6, 3)) == (3, 4, 5)
