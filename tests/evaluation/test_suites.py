"""Suites by domain, and the names in them."""

import pytest

from easyep.errors import EvaluationError, UnknownNameError
from easyep.evaluation.suites import suite, suites
from easyep.evaluation.tasks import local_tasks


def test_every_task_of_every_suite_is_lm_evals_or_ours():
    from lm_eval.tasks import TaskManager

    known = {*TaskManager().all_tasks, *local_tasks()}
    for name in suites():
        for thinking in (False, True):
            try:
                asked = suite(name, thinking=thinking)
            except EvaluationError:
                assert thinking
                continue
            assert asked
            assert not [each.task for each in asked if each.task not in known], name


def test_models_that_think_are_sampled_and_have_room():
    asked = {each.task: each for each in suite("math", thinking=True)}
    assert set(asked) == {"aime24", "aime25", "minerva_math500"}
    for each in asked.values():
        assert each.generation["temperature"] == 0.6
        assert each.generation["max_gen_toks"] == 32768
        assert not each.num_fewshot
    plain = {each.task: each for each in suite("math")}
    assert plain["gsm8k"].num_fewshot == 5
    assert plain["gsm8k"].generation == {}


def test_unknown_suites():
    with pytest.raises(UnknownNameError, match=r"mth.*did you mean.*math"):
        suite("mth")
    with pytest.raises(EvaluationError, match="--style plain"):
        suite("documents", thinking=True)
