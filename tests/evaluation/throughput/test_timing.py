"""Metrics of requests, by hand."""

import pytest

from easyep.evaluation.throughput.timing import RequestTiming, RoundTiming, percentile

# Prompts of 10 tokens. The first is answered at once, the second waits for its prefill.
FIRST = RequestTiming(0.0, ((1.0, 1), (2.0, 1), (3.0, 1), (5.0, 1)))
SECOND = RequestTiming(0.5, ((2.5, 1), (3.0, 2), (6.0, 1)))


def test_a_request():
    assert (FIRST.tokens, FIRST.ttft, FIRST.e2el) == (4, 1.0, 5.0)
    assert FIRST.tpot == pytest.approx(4 / 3)
    assert FIRST.itl == (1.0, 1.0, 2.0)
    assert SECOND.ttft == 2.0
    assert SECOND.tpot == pytest.approx(3.5 / 3)
    assert SECOND.itl == (0.5, 3.0)


def test_a_single_token_has_no_time_per_further_token():
    one = RequestTiming(0.0, ((1.0, 1),))
    assert (one.tpot, one.itl) == (None, ())
    assert RequestTiming(0.0, ((1.0, 3),)).tpot is None


def test_a_round():
    both = RoundTiming(10, (FIRST, SECOND))
    assert both.duration == 6.0
    assert both.prefill_throughput == 20 / 2.5  # until the second has its first token
    # From 2.5 on, until the first is done at 5: tokens at 3 (one and two) and at 5.
    assert both.decode_throughput == 4 / 2.5
    assert both.output_throughput == 8 / 6
    assert both.total_token_throughput == 28 / 6
    assert both.request_throughput == 2 / 6


def test_requests_that_were_never_together_have_no_decode_throughput():
    later = RequestTiming(0.0, ((7.0, 1), (8.0, 1)))
    assert RoundTiming(10, (FIRST, later)).decode_throughput is None


def test_requests_that_came_one_by_one_have_no_phases():
    paced = RoundTiming(10, (FIRST, SECOND), paced=True)
    assert (paced.prefill_throughput, paced.decode_throughput) == (None, None)
    assert paced.request_throughput == 2 / 6


def test_percentiles_are_those_of_numpy():
    import numpy as np

    values = np.random.default_rng(1).exponential(size=37).tolist()
    for share in (0, 50, 90, 99, 100):
        assert percentile(values, share) == pytest.approx(np.percentile(values, share), rel=1e-12)
    assert percentile([3.0], 99) == 3.0
