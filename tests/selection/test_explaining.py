"""What a selection keeps and loses, against counts by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from easyep import scoring, selection
from easyep.artifacts import RoutedTokens
from easyep.errors import SelectionError
from tests import records

GROUPED = {"n_group": 2, "topk_group": 1}


def test_retained_share():
    scores = records.scores({0: [1, 2, 3, 4]})
    assert selection.retained_share(scores, selection.select(scores, 2)) == {0: 0.7}
    nothing = records.scores({0: [0, 0, 0, 0]})
    assert selection.retained_share(nothing, selection.select(nothing, 2)) == {0: 0.0}


def test_margins():
    scores = records.scores({0: [1, 2, 3, 4], 1: [0, 0, 0, 0]})
    first, second = selection.explain(scores, selection.select(scores, 2))
    assert (first.margin.kept, first.margin.dropped) == (2, 1)
    assert first.margin.relative == pytest.approx(1 / 3)
    assert (second.margin, second.unseen) == (None, 2)


def test_margins_within_groups():
    """The second group's decision is the closer one; across groups nothing was decided."""
    scores = records.scores({0: [9, 9, 1, 1, 4, 5, 5.5, 6]}, **GROUPED)
    (layer,) = selection.explain(scores, selection.select(scores, 4))
    assert (layer.margin.kept, layer.margin.dropped) == (6, 5)
    (layer,) = selection.explain(scores, selection.select(scores, 4, groups="flatten"))
    assert (layer.margin.kept, layer.margin.dropped) == (6, 5)


def test_across_groups_the_margin_is_of_the_whole_layer():
    """In each half of the layer the decision was closer than across both."""
    scores = records.scores({0: [9, 8, 1, 1, 4, 3, 1, 1]}, **GROUPED)
    chosen = selection.select(scores, 2, groups="flatten", protect="4", forbid="1")
    assert chosen.layers[0] == (0, 4)
    (layer,) = selection.explain(scores, chosen)
    assert (layer.margin.kept, layer.margin.dropped) == (4, 1)


def test_protection_shows_as_a_margin_below_0():
    scores = records.scores({0: [1, 2, 3, 4]})
    (layer,) = selection.explain(scores, selection.select(scores, 2, protect="0"))
    assert layer.margin.relative == pytest.approx((1 - 3) / 3)


def test_routing_agreement_by_loops():
    seen = records.observations(experts=8, layers=(1,))
    scores = scoring.score(seen)
    chosen = selection.select(scores, 4)
    (layer,) = selection.explain(scores, chosen, seen)
    record, kept = seen.layers[1], set(chosen.layers[1])
    here = [[int(e) in kept for e in row] for row in record.expert_ids]
    assert layer.agreement.routes == pytest.approx(np.mean([np.mean(row) for row in here]))
    assert layer.agreement.tokens == pytest.approx(np.mean([all(row) for row in here]))
    on_kept = sum(
        float(record.weights[t, slot])
        for t, row in enumerate(here)
        for slot, is_kept in enumerate(row)
        if is_kept
    )
    assert layer.agreement.weight == pytest.approx(on_kept / float(record.weights.sum()))


def test_agreement_is_what_a_masked_router_does():
    """Top-k of made-up logits, before and after experts are masked: kept ones stay chosen."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((300, 16))
    before = np.argsort(-logits, axis=1)[:, :4]
    kept = (0, 2, 3, 5, 7, 8, 11, 15)
    masked = np.where(np.isin(np.arange(16), kept), logits, -np.inf)
    after = np.argsort(-masked, axis=1)[:, :4]
    overlap = np.mean([len(set(b) & set(a)) / 4 for b, a in zip(before, after, strict=True)])
    same = np.mean([set(b) == set(a) for b, a in zip(before, after, strict=True)])
    record = replace(
        records.routed_tokens(tokens=300, experts=16, k=4), expert_ids=before.astype(np.int32)
    )
    found = selection.agreement(record, kept)
    assert (found.routes, found.tokens) == (pytest.approx(overlap), pytest.approx(same))


def test_comparison():
    scores = records.scores({0: [1, 2, 3, 4]})
    mine, theirs = selection.select(scores, 2), selection.select(scores, 3, protect="0")
    (layer,) = selection.compare(scores, mine, theirs)
    assert (layer.overlap, layer.added, layer.missing) == (1.0, (), (0,))
    assert layer.retained == pytest.approx(0.8)
    (layer,) = selection.compare(scores, theirs, selection.select(scores, 2, forbid="3"))
    assert (layer.overlap, layer.added, layer.missing) == (0.5, (0, 3), (1,))


def test_retained_share_of_pairs_is_what_is_not_lost():
    seen = records.observations(experts=8, layers=(1,))
    scores = scoring.score(seen, "hope")
    chosen = selection.select(scores, 5)
    dropped = [e for e in range(8) if e not in chosen.layers[1]]
    lost = sum(scores.pairs[1][i, j] for i in dropped for j in dropped)
    expected = 1 - lost / scores.pairs[1].sum()
    assert selection.retained_share(scores, chosen)[1] == pytest.approx(expected)


def test_what_cannot_be_compared():
    scores = records.scores({0: [1, 2, 3, 4]})
    chosen = selection.select(scores, 2)
    other = replace(chosen, model=replace(chosen.model, weights_sha256="0" * 64, name="another"))
    with pytest.raises(
        SelectionError, match="the selection is of another, the scores are of made-up"
    ):
        selection.compare(scores, chosen, other)
    with pytest.raises(SelectionError, match="the selection is of another"):
        selection.compare(scores, other, chosen)
    with pytest.raises(SelectionError, match="has layer 7, which was not scored; those scored: 0$"):
        selection.explain(scores, replace(chosen, layers={7: (0, 1)}))


def test_routes_of_weight_0_do_not_count():
    record = records.routed_tokens(tokens=2, experts=4, k=2)
    record.expert_ids[:] = [[1, 2], [3, 0]]
    record.weights[:] = [[0.5, 0.5], [1, 0]]
    found = selection.agreement(record, (1, 3))
    assert (found.routes, found.tokens, found.weight) == (2 / 3, 0.5, 0.75)


def test_layers_are_told_as_json():
    seen = records.observations(experts=8, layers=(1,))
    scores = scoring.score(seen)
    chosen = selection.select(scores, 4)
    (layer,) = selection.explain(scores, chosen, seen)
    told = json.loads(json.dumps(layer.to_json()))
    assert told["margin"] == {
        "kept": layer.margin.kept,
        "dropped": layer.margin.dropped,
        "relative": layer.margin.relative,
    }
    assert told["agreement"]["weight"] == layer.agreement.weight
    (layer,) = selection.compare(scores, chosen, selection.select(scores, 2))
    told = json.loads(json.dumps(layer.to_json()))
    assert told["added"] == list(layer.added)
    assert told["agreement"] is None


def test_where_all_are_kept_nothing_was_decided():
    scores = records.scores({0: [1, 2, 3, 4]})
    (layer,) = selection.explain(scores, selection.select(scores, 4))
    assert (layer.margin, layer.retained) == (None, 1)


def test_the_closest_decision_may_be_of_the_first_group():
    scores = records.scores({0: [4, 5, 5.5, 6, 9, 9, 1, 1]}, **GROUPED)
    (layer,) = selection.explain(scores, selection.select(scores, 4))
    assert (layer.margin.kept, layer.margin.dropped) == (2, 1)
    assert layer.margin.relative == pytest.approx(0.5 / 5.5)


def test_of_equal_scores_the_margin_names_the_highest_kept_and_the_lowest_dropped_id():
    scores = records.scores({0: [1, 1, 1, 1]})
    (layer,) = selection.explain(scores, selection.select(scores, 2))
    assert (layer.margin.kept, layer.margin.dropped, layer.margin.relative) == (1, 2, 0)


@pytest.mark.parametrize(
    ("values", "kept", "relative"), [([0, 0, -1, -2], 1, 1.0), ([-1, -2, -4, -8], 1, 0.5)]
)
def test_scores_below_zero_have_margins_too(values, kept, relative):
    scores = records.scores({0: values})
    (layer,) = selection.explain(scores, selection.select(scores, 2))
    assert (layer.margin.kept, layer.margin.dropped) == (kept, 2)
    assert layer.margin.relative == pytest.approx(relative)


def test_selections_of_other_layers_cannot_be_compared():
    scores = records.scores({0: [1, 2, 3, 4], 1: [4, 3, 2, 1]})
    chosen = selection.select(scores, 2)
    first, second = (replace(chosen, layers={i: chosen.layers[i]}) for i in (0, 1))
    with pytest.raises(SelectionError, match="no layer in common"):
        selection.compare(scores, first, second)


def test_layers_that_only_one_selection_has_are_not_compared():
    scores = records.scores({0: [1, 2, 3, 4], 2: [4, 3, 2, 1]})
    chosen = selection.select(scores, 2)
    other = replace(chosen, layers={2: (2, 3)})
    (layer,) = selection.compare(scores, chosen, other)
    assert (layer.layer, layer.added, layer.missing) == (2, (0, 1), (2, 3))
    assert layer.retained == pytest.approx(0.3)


def test_layers_without_a_record_have_no_agreement():
    seen = records.observations(experts=8, layers=(1,))
    scores = records.scores({1: range(8), 2: range(8)})
    first, second = selection.explain(scores, selection.select(scores, 4), seen)
    assert first.agreement is not None
    assert second.agreement is None


def test_a_record_of_another_model_is_refused():
    seen = records.observations(experts=8, layers=(1,))
    other = replace(seen, model=replace(seen.model, weights_sha256="0" * 64, name="another"))
    scores = scoring.score(seen)
    with pytest.raises(SelectionError, match="observations is of another, the scores are of made"):
        selection.explain(scores, selection.select(scores, 4), other)


def test_a_record_without_routes_loses_nothing():
    record = records.routed_tokens(tokens=2, experts=4, k=2)
    record.weights[:] = 0
    found = selection.agreement(record, (1, 3))
    assert (found.routes, found.tokens, found.weight) == (1, 1, 1)
    found = selection.agreement(RoutedTokens.none(2), (1, 3))
    assert (found.routes, found.tokens, found.weight) == (1, 1, 1)


def test_what_is_decided_within_groups_is_not_decided_across_them():
    scores = records.scores({0: [9, 8, 7, 1, 2, 3, 4, 6]}, **GROUPED)
    (layer,) = selection.explain(scores, selection.select(scores, 4))
    assert (layer.margin.kept, layer.margin.dropped) == (1, 2)
    assert layer.margin.relative == pytest.approx(1 / 8)
    (layer,) = selection.explain(scores, selection.select(scores, 4, groups="flatten"))
    assert (layer.margin.kept, layer.margin.dropped) == (7, 6)
    assert layer.margin.relative == pytest.approx(2 / 6)


def test_the_first_expert_of_the_next_group_is_not_of_this_one():
    scores = records.scores({0: [9, 8, 7, 1, 2, 1, 0, 1.5]}, **GROUPED)
    (layer,) = selection.explain(scores, selection.select(scores, 4))
    assert (layer.margin.kept, layer.margin.dropped) == (1, 2)


def test_of_equally_close_decisions_the_first_is_told():
    scores = records.scores({0: [5, 2, 1, 0, 5, 2, 1, 0]}, **GROUPED)
    (layer,) = selection.explain(scores, selection.select(scores, 4))
    assert (layer.margin.kept, layer.margin.dropped) == (1, 2)


def test_a_dropped_score_of_0_is_a_whole_margin():
    scores = records.scores({0: [0, 0, 3, 4]})
    (layer,) = selection.explain(scores, selection.select(scores, 2))
    assert (layer.margin.kept, layer.margin.dropped, layer.margin.relative) == (2, 0, 1)


def test_pairs_that_cost_nothing_hold_nothing():
    scores = scoring.score(records.observations(experts=8, layers=(1,)), "hope")
    nothing = replace(scores, pairs={1: np.zeros((8, 8))})
    assert selection.retained_share(nothing, selection.select(scores, 4)) == {1: 0.0}


def test_weights_are_added_up_in_double_precision():
    """In single precision 2^24 + 1 is 2^24."""
    record = records.routed_tokens(tokens=2, experts=4, k=2)
    record.expert_ids[:] = [[0, 1], [1, 2]]
    record.weights[:] = [[2**24, 1], [1, 1]]
    assert selection.agreement(record, (0, 1)).weight == (2**24 + 2) / (2**24 + 3)
    assert selection.agreement(record, (0, 2)).weight == (2**24 + 1) / (2**24 + 3)
