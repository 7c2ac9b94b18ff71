from itertools import pairwise

import pytest

from easyep.evaluation.throughput.workload import (
    LARGEST_BATCH,
    Workload,
    default_batch_sizes,
    default_lengths,
)


def test_prompts_are_the_same_for_all_models_and_differ_from_round_to_round():
    work = Workload(12, 4, 3)
    prompts = work.prompts(range(5, 400), 0)
    assert [len(each) for each in prompts] == [12, 12, 12]
    assert all(5 <= token < 400 for each in prompts for token in each)
    assert prompts == Workload(12, 4, 3).prompts(range(5, 400), 0)
    assert prompts != work.prompts(range(5, 400), 1)
    assert len({tuple(each[:4]) for each in prompts}) == 3


def test_lengths_follow_the_machine_and_the_model():
    assert default_lengths(True, None) == [(1024, 1024), (1024, 4096), (4096, 1024)]
    assert default_lengths(False, None) == [(64, 64), (64, 256), (256, 64)]
    assert default_lengths(True, 2048) == [(256, 256), (256, 1024), (1024, 256)]
    assert max(map(sum, default_lengths(False, 64))) <= 64


def test_batches_double():
    sizes = default_batch_sizes()
    assert sizes[:3] == [1, 2, 4]
    assert sizes[-1] == LARGEST_BATCH


def test_requests_arrive_as_a_poisson_process():
    work = Workload(4, 4, 8, request_rate=5.0, num_prompts=4000)
    times = work.arrivals(0)
    assert (len(times), times[0], len(work.prompts(range(9), 0))) == (4000, 0.0, 4000)
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / 5, rel=0.06)  # four standard errors
    # Exponential gaps: the standard deviation is the mean, and 1/e of them are longer than it.
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert spread == pytest.approx(1 / 5, rel=0.1)
    assert sum(gap > 1 / 5 for gap in gaps) / len(gaps) == pytest.approx(0.3679, abs=0.03)
    assert times == Workload(4, 4, 8, 5.0, 4000).arrivals(0) != work.arrivals(1)


def test_without_a_rate_a_round_is_a_batch():
    assert (Workload(4, 4, 8).requests, Workload(4, 4, 8).paced) == (8, False)
