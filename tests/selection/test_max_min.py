"""The fairest choice against brute force."""

import numpy as np
import pytest

from easyep import mixing, selection
from easyep.selection import max_min as module
from easyep.selection.max_min import max_min
from tests import records
from tests.selection.choices import allowed, terms

CASES = [
    terms(8, 3),
    terms(10, 5),
    terms(8, 4, n_group=2),
    terms(9, 4, protected=[0, 5], forbidden=[2]),
    terms(12, 6, n_group=3, forbidden=[0]),
]


def least_share(domains, weights, kept) -> float:
    return min(
        sum(float(d[e]) for e in kept) / sum(map(float, d)) / weight * max(weights)
        for d, weight in zip(domains, weights, strict=True)
    )


@pytest.mark.parametrize("of", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("weights", [[1, 1, 1], [1, 0.5, 0.25]])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_other_choice_is_fairer(of, weights, seed):
    rng = np.random.default_rng(seed)
    domains = list(rng.exponential(size=(3, len(of.protected))) ** 2)
    kept = max_min(domains, weights, of)
    assert kept in set(allowed(of))
    best = max(least_share(domains, weights, choice) for choice in allowed(of))
    assert least_share(domains, weights, kept) == pytest.approx(best, rel=1e-8)


@pytest.mark.parametrize(("seed", "power"), [(29, None), (569, None), (300, 2)])
def test_programs_that_highs_simplifies_wrongly(seed, power, capfd):
    """With its presolve HiGHS 1.12 calls worse sets optimal, and prints to standard output."""
    rng = np.random.default_rng(seed)
    if power:
        domains, weights, of = (
            [rng.exponential(size=12) ** 2 for _ in range(2)],
            [1, 1],
            terms(12, 6),
        )
    else:
        domains, weights, of = [rng.random(10) ** 3 for _ in range(3)], [1, 0.5, 2], terms(10, 4)
    kept = max_min(domains, weights, of)
    best = max(least_share(domains, weights, choice) for choice in allowed(of))
    assert least_share(domains, weights, kept) == pytest.approx(best, rel=1e-6)
    assert capfd.readouterr() == ("", "")


def test_among_equals_the_most_for_all():
    """Every choice with expert 0 leaves the worse domain with 0.5; (0, 1) has the largest sum."""
    domains = [np.array([5.0, 5, 0, 0]), np.array([5.0, 0, 3, 2])]
    assert max_min(domains, [1, 1], terms(4, 2)) == (0, 1)
    assert max_min([domains[1], domains[0]], [1, 1], terms(4, 2)) == (0, 1)


def test_a_domain_without_scores_does_not_bind():
    assert max_min([np.zeros(4), np.array([1.0, 2, 3, 4])], [1, 1], terms(4, 2)) == (2, 3)


def test_the_mean_can_forget_a_domain_and_max_min_does_not():
    strong = records.scores({1: [5.0, 5.0, 0, 0, 0, 0]})
    weak = records.scores({1: [0, 0, 1.0, 1.1, 1.2, 1.3]})
    mean = selection.select(mixing.mix([strong, weak], [1, 1]), 2)
    fair = selection.select(mixing.mix([strong, weak], [1, 1], "max-min"), 2)
    assert mean.layers[1] == (0, 1)
    assert fair.layers[1] in ((0, 5), (1, 5))


def test_a_large_layer_is_solved_at_once():
    rng = np.random.default_rng(0)
    domains = list(rng.exponential(size=(4, 256)) ** 3)
    kept = max_min(domains, [1] * 4, terms(256, 64, n_group=8))
    assert len(kept) == 64
    fair = least_share(domains, [1] * 4, kept)
    mean = np.mean([d / d.sum() for d in domains], axis=0)
    by_mean = [g * 32 + e for g in range(8) for e in np.argsort(-mean[g * 32 : g * 32 + 32])[:8]]
    assert fair >= least_share(domains, [1] * 4, by_mean)


@pytest.mark.parametrize("found", [[], ["first"]], ids=["nothing", "only the first"])
def test_where_time_runs_out_the_best_that_is_known_is_taken(monkeypatch, found):
    """Nothing: the largest sum of shares. Only the least share: the choice that reached it."""
    domains = [np.array([5.0, 5, 0, 0]), np.array([5.0, 0, 3, 2])]
    solve = module.minimise
    calls = []

    def minimise(*arguments, **options):
        calls.append(arguments)
        return solve(*arguments, **options) if len(calls) <= len(found) else None

    monkeypatch.setattr(module, "minimise", minimise)
    kept = max_min(domains, [1, 1], terms(4, 2))
    assert len(calls) == len(found) + 1
    if not found:
        assert kept == (0, 1)  # sums of shares: 1, 0.5, 0.3, 0.2
    else:
        assert least_share(domains, [1, 1], kept) == 0.5
    assert max_min([np.zeros(4)], [1], terms(4, 2)) == (0, 1)


def test_a_weight_says_how_much_less_a_domain_may_keep():
    """With 0.5 the second may keep half the share of the first: both are content with (0, 1)."""
    domains = [np.array([6.0, 4, 0, 0]), np.array([0.0, 5, 3, 2])]
    assert max_min(domains, [1, 1], terms(4, 2)) == (0, 1)
    assert max_min(domains, [0.5, 1], terms(4, 2)) == (1, 2)
    assert max_min(domains, [1, 2], terms(4, 2)) == (1, 2)


@pytest.mark.parametrize("weight", [1e-6, 1e-3])
def test_a_domain_with_next_to_no_weight_changes_nothing(weight):
    """Its shares are made large beside those of the other, which stay as they are."""
    domains = [np.array([4.0, 3, 2, 1]), np.array([1.0, 2, 3, 4])]
    assert max_min(domains, [1, weight], terms(4, 2)) == (0, 1)
    assert max_min(domains[::-1], [weight, 1], terms(4, 2)) == (0, 1)


@pytest.mark.parametrize("experts", [8, 64, 65])
def test_the_least_share_is_held_while_the_sum_grows(monkeypatch, experts):
    """Exactly up to a size, and beyond it within a millionth."""
    solve, calls = module.minimise, []

    def minimise(objective, rows, low, high, integers, *, gap, presolve):
        assert presolve is False
        found = solve(objective, rows, low.copy(), high, integers, gap=gap, presolve=presolve)
        calls.append((low[-1], gap, found[-1]))
        return found

    monkeypatch.setattr(module, "minimise", minimise)
    domains = list(np.random.default_rng(0).exponential(size=(2, experts)))
    max_min(domains, [1, 1], terms(experts, experts // 2))
    (_, first_gap, share), (held, second_gap, _) = calls
    assert first_gap == second_gap == (0 if experts <= 64 else 1e-6)
    assert held < share
    assert held == pytest.approx(share, rel=2e-9 if experts <= 64 else 2e-6)
