"""Budgets, groups and ties."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyep import selection
from easyep.architectures.router import Router
from easyep.errors import SelectionError, UnknownNameError
from tests import records
from tests.checkpoint.progress import Recorder

GROUPED = {"n_group": 4, "topk_group": 2}


def test_the_best_are_kept_in_ascending_order():
    chosen = selection.select(records.scores({0: [0.1, 0.9, 0.5, 0.7], 3: [4, 3, 2, 1]}), 2)
    assert chosen.layers == {0: (1, 3), 3: (0, 1)}


def test_of_equal_scores_the_lower_id_stays():
    assert selection.select(records.scores({0: [0, 1, 1, 1, 0, 0]}), 2).layers[0] == (1, 2)
    assert selection.select(records.scores({0: [0.0] * 6}), 3).layers[0] == (0, 1, 2)


def test_balanced_keeps_the_best_of_each_group():
    scores = records.scores({0: [9, 8, 7, 6, 1, 2, 3, 4, 0, 0, 0, 1, 5, 5, 6, 6]}, **GROUPED)
    chosen = selection.select(scores, 8)
    assert chosen.layers[0] == (0, 1, 6, 7, 8, 11, 14, 15)
    free = selection.select(scores, 8, groups="flatten")
    assert free.layers[0] == (0, 1, 2, 3, 12, 13, 14, 15)


@given(
    st.lists(st.integers(0, 5), min_size=8, max_size=8),
    st.sampled_from([("balanced", 4), ("flatten", 3), ("flatten", 4), ("balanced", 6)]),
)
def test_no_other_valid_choice_scores_more(values, how):
    groups, keep = how
    scores = records.scores({0: values}, n_group=2, topk_group=1)
    kept = selection.select(scores, keep, groups=groups).layers[0]

    def valid(choice):
        return groups == "flatten" or sum(e < 4 for e in choice) * 2 == keep

    best = max(
        sum(values[e] for e in choice)
        for choice in itertools.combinations(range(8), keep)
        if valid(choice)
    )
    assert sum(values[e] for e in kept) == best
    assert valid(kept)


@pytest.mark.parametrize(
    ("keep", "options", "expected"),
    [
        (0.5, {}, 32),
        (0.3, {}, 19),
        (0.3, {"align": 8}, 16),
        (7, {}, 7),
        (64.0, {}, 64),
        (0.99, {"align": 4}, 60),
        (0.05, {}, 4),
        (16, {"align": 5}, 15),
        (20, {"align": 5}, 20),
    ],
)
def test_counts(keep, options, expected):
    assert selection.keep_count(keep, Router(64, 4), **options) == expected


def test_fractions_round_to_whole_groups():
    assert selection.keep_count(0.4, Router(32, 4, 4, 2)) == 12
    assert selection.keep_count(0.4, Router(32, 4, 4, 2), groups="flatten") == 13
    assert selection.keep_count(0.2, Router(64, 4, 8, 4)) == 16


@pytest.mark.parametrize("keep", [0, -1, 1.5, 0.0, True, float("nan")])
def test_what_is_no_budget(keep):
    with pytest.raises(SelectionError, match="fraction in"):
        selection.keep_count(keep, Router(64, 4))


@pytest.mark.parametrize(
    ("keep", "groups", "message"),
    [
        (3, "flatten", "routed to 4; the nearest counts that work: 4"),
        (65, "flatten", "only 64; .*: 64"),
        (20, "balanced", "same number .*: 16 and 24"),
        (8, "balanced", "2 best experts.*: 16"),
        (8, "balanced", "2 best experts.*: 16; or choose groups 'flatten'"),
        (0.01, "balanced", "cannot keep 1 of 64"),
        (0.01, "flatten", "routed to 4"),
    ],
)
def test_the_router_must_still_work(keep, groups, message):
    with pytest.raises(SelectionError, match=message):
        selection.keep_count(keep, Router(64, 4, 8, 4), groups=groups)


def test_unknown_group_mode():
    with pytest.raises(UnknownNameError, match="balanced"):
        selection.keep_count(0.5, Router(8, 2), groups="balance")


def test_a_mask_becomes_a_selection():
    model, router = records.MODEL, Router(8, 1, 2, 1)
    even, uneven = [1, 1, 0, 0, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0, 1]
    balanced = selection.from_mask([even, even], [1, 2], model, router)
    assert (balanced.groups, balanced.keep) == ("balanced", 4)
    assert balanced.layers == {1: (0, 1, 5, 6), 2: (0, 1, 5, 6)}
    with pytest.raises(SelectionError, match=r"layer 2 .*\[3, 1\].*--groups flatten"):
        selection.from_mask([even, uneven], [1, 2], model, router)
    free = selection.from_mask([even, uneven], [1, 2], model, router, groups="flatten")
    assert (free.groups, free.layers[2]) == ("flatten", (0, 1, 2, 7))


@pytest.mark.parametrize(
    "mask",
    [
        [[1, 1, 0, 0]],
        [[1, 1, 0, 0], [1, 0, 0, 0]],
        [[1, 1, 0], [1, 1, 0]],
        [[2, 0, 0, 0]] * 2,
        [1, 2],
        ["ab", "cd"],
    ],
)
def test_masks_that_do_not_fit(mask):
    with pytest.raises(SelectionError):
        selection.from_mask(mask, [1, 2], records.MODEL, Router(4, 1))


def test_budgets_are_nested():
    scores = records.scores({0: np.random.default_rng(0).random(32).tolist()}, **GROUPED)
    for groups in ("balanced", "flatten"):
        kept = [set(selection.select(scores, k, groups=groups).layers[0]) for k in (8, 16, 24)]
        assert kept[0] < kept[1] < kept[2]
        assert [set(s.layers[0]) for s in selection.nested(scores, [8, 24, 16], groups=groups)] == [
            kept[0],
            kept[2],
            kept[1],
        ]
    with pytest.raises(SelectionError, match="how many"):
        selection.nested(scores, [])


def test_layers_keep_the_same_number():
    selection.check_allocation("uniform")
    with pytest.raises(UnknownNameError, match="load in no engine"):
        selection.check_allocation("global")


def test_scores_may_be_a_file(tmp_path):
    scores = records.scores({0: [0.1, 0.9, 0.5, 0.7]})
    scores.save(tmp_path / "scores.json")
    assert selection.select(tmp_path / "scores.json", 2) == selection.select(scores, 2)
    assert selection.select(str(tmp_path / "scores.json")) == selection.select(scores, 2)


def test_counts_of_an_alignment():
    scores = records.scores({0: list(range(16))}, top_k=2)
    assert selection.select(scores, 0.3, align=4).keep == 4
    assert [each.keep for each in selection.nested(scores, [0.9, 0.3], align=4)] == [12, 4]


def test_progress_is_told_of_every_layer_of_every_size():
    progress = Recorder()
    scores = records.scores({0: list(range(8)), 3: list(range(8))})
    selection.nested(scores, [2, 4, 6], progress=progress)
    assert progress.tasks == [("Choosing experts", 6, "layers")]
    assert progress.done == 6


def test_a_mask_that_fits_in_number_only():
    router = Router(8, 2, 2, 1)
    with pytest.raises(SelectionError, match=r"layer 1 .*\[4, 0\]"):
        selection.from_mask([[1, 1, 1, 1, 0, 0, 0, 0]], [1], records.MODEL, router)
    with pytest.raises(SelectionError, match="each token is routed to 2"):
        selection.from_mask([[1, 0, 0, 0]], [1], records.MODEL, Router(4, 2))
    one = selection.from_mask([[0, 1, 0, 0]], [1], records.MODEL, Router(4, 1))
    assert (one.keep, one.criterion, one.num_experts) == (1, "mask", 4)
