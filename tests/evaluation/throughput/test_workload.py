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
