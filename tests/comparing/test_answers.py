"""What counts as a loop, and as a healthy answer."""

import numpy as np
import pytest

from easyep.artifacts import TokenSequence
from easyep.comparing.answers import Answer, ends_in_a_loop, generate, health, prompt_of
from easyep.loading import load_model, load_tokenizer
from easyep.progress import SILENT
from easyep.resources import demo_model


@pytest.mark.parametrize(
    ("ids", "loop"),
    [
        ([], False),
        ([7] * 16, True),
        ([7] * 15, False),
        ([1, 2, 3, *[7] * 16], True),
        ([*[7] * 16, 1], False),
        ([5, 6, 7, 8] * 4, True),
        ([5, 6, 7, 8] * 3, False),
        ([9, *range(10, 40)] * 4, True),
        ([9, *range(10, 40)] * 3, False),
        (list(range(100)), False),
        ([1, 2] * 8, True),
        ([1, 2] * 7, False),
    ],
)
def test_loops(ids, loop):
    assert ends_in_a_loop(ids) is loop


def test_shares_of_answers():
    answers = [
        Answer((1, 2, 3), True, False),
        Answer((), True, True),
        Answer((4,) * 20, False, False),
        Answer((5, 6), False, False),
    ]
    found = health(answers)
    assert (found.answers, found.empty, found.truncated, found.looping) == (4, 0.25, 0.5, 0.25)
    assert found.length.value == pytest.approx(25 / 4)


def sequence(response):
    response = np.array(response, dtype=bool)
    return TokenSequence(np.arange(10, 10 + len(response)), response)


def test_the_prompt_is_what_stands_before_the_last_answer():
    assert prompt_of(sequence([0, 0, 1, 1])) == [10, 11]
    assert prompt_of(sequence([0, 1, 1, 0, 0, 1])) == [10, 11, 12, 13, 14]
    assert prompt_of(sequence([0, 0])) is None
    assert prompt_of(sequence([1, 1])) is None


def test_answers_do_not_depend_on_the_batch_and_end_where_the_model_ends_them():
    model = load_model(demo_model(), dtype="float32", device="cpu")
    tokenizer = load_tokenizer(demo_model())
    questions = ["What is 8 * 97?", "What is 54 - 32?", "Hi"]
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in questions
    ]

    def ask(batch_size, limit=48):
        with SILENT.task("", 3, "") as task:
            return generate(
                model,
                tokenizer,
                prompts,
                max_new_tokens=limit,
                batch_size=batch_size,
                done=task,
            )

    answers = ask(3)
    assert answers == ask(1)
    assert tokenizer.decode(answers[0].ids).endswith("answer: 776")
    assert answers[0].finished
    cut = ask(3, limit=2)
    assert [len(each.ids) for each in cut] == [2, 2, 2]
    assert not any(each.finished for each in cut)
