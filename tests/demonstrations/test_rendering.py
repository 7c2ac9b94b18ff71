"""What the model reads of a demonstration, and which of it is the response."""

import logging

import numpy as np
import pytest

from easyep.artifacts import Demo, TokenSequence
from easyep.demonstrations import choose, render, rendering
from easyep.errors import DemosError
from easyep.loading import load_tokenizer
from easyep.resources import demo_model

TURNS = [
    {"role": "user", "content": "What is 2 + 3?"},
    {"role": "assistant", "content": "answer: 5"},
    {"role": "user", "content": "And 4 + 4?"},
    {"role": "assistant", "content": "answer: 8"},
]
STRIPS_EARLIER_THOUGHTS = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}|"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def tokenizer():
    return load_tokenizer(demo_model())


def response(tokenizer, sequence) -> str:
    return tokenizer.decode(sequence.input_ids[sequence.is_response])


def test_messages_go_through_the_chat_template(tokenizer):
    sequence = render(Demo({"messages": TURNS}), tokenizer)
    expected = tokenizer.apply_chat_template(TURNS, tokenize=True)["input_ids"]
    assert sequence.input_ids.tolist() == list(expected)


def test_the_responses_are_the_assistants_turns_as_it_would_write_them(tokenizer):
    sequence = render(Demo({"messages": TURNS}), tokenizer)
    assert response(tokenizer, sequence) == "answer: 5<|end|>answer: 8<|end|>"


def test_a_template_that_drops_earlier_thoughts(tokenizer):
    tokenizer.chat_template = STRIPS_EARLIER_THOUGHTS
    turns = [dict(turn) for turn in TURNS]
    turns[1]["content"] = "<think>two three</think>answer: 5"
    turns[3]["content"] = "<think>4 4</think>answer: 8"
    sequence = render(Demo({"messages": turns}), tokenizer)
    assert response(tokenizer, sequence).endswith("<think>4 4</think>answer: 8|")
    assert "two three" not in tokenizer.decode(sequence.input_ids)


DROPS_ALL_THOUGHTS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}|{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
)


@pytest.mark.parametrize("opening", ["<think>\n", "<think>", ""])
def test_of_the_last_answer_nothing_is_left_out(tokenizer, opening):
    tokenizer.chat_template = DROPS_ALL_THOUGHTS
    turns = [dict(turn) for turn in TURNS]
    turns[1]["content"] = "<think>\ntwo three</think>answer: 5"
    turns[3]["content"] = f"{opening}four four</think>answer: 8"
    sequence = render(Demo({"messages": turns}), tokenizer)
    text = tokenizer.decode(sequence.input_ids)
    assert text.count("four four</think>answer: 8|") == 1
    assert "two three" not in text
    assert response(tokenizer, sequence).endswith("four four</think>answer: 8|")
    expected = "<assistant><think>\n" if opening != "<think>" else "<assistant><think>"
    assert expected in text


def test_a_template_that_drops_the_last_answer(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(DemosError, match="drops the last answer"):
        render(Demo({"messages": TURNS}), tokenizer)


def test_text_that_no_tokenizer_can_read(tokenizer):
    with pytest.raises(DemosError, match="not valid Unicode"):
        render(Demo({"text": "a\ud800"}), tokenizer)
    with pytest.raises(DemosError, match="no token id"):
        render(Demo({"input_ids": [2**70]}), tokenizer)
    with pytest.raises(DemosError, match="no token id"):  # which the tokenizer could not show
        render(Demo({"input_ids": [2**32]}), tokenizer)


def test_prompt_and_response(tokenizer):
    sequence = render(Demo({"prompt": "What is 1 + 1?", "response": " two"}), tokenizer)
    assert response(tokenizer, sequence) == " two"


def test_text_has_no_response(tokenizer):
    assert not render(Demo({"text": "some text"}), tokenizer).is_response.any()


def test_ids_are_used_as_they_are(tokenizer):
    sequence = render(Demo({"input_ids": [5, 6, 7], "response_start": 2}), tokenizer)
    assert sequence.input_ids.tolist() == [5, 6, 7]
    assert sequence.is_response.tolist() == [False, False, True]
    assert not render(Demo({"input_ids": [5, 6]}), tokenizer).is_response.any()


def test_what_is_too_long_is_cut_and_counted(tokenizer):
    whole = render(Demo({"messages": TURNS}), tokenizer)
    short = render(Demo({"messages": TURNS}), tokenizer, max_length=10)
    assert len(short) == 10
    assert short.cut == len(whole) - 10
    assert short.input_ids.tolist() == whole.input_ids[:10].tolist()


def test_the_tokenizer_says_nothing_of_what_is_too_long(tokenizer, caplog):
    tokenizer.model_max_length = 5
    transformers = logging.getLogger("transformers")
    transformers.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING, logger="transformers")
    try:
        assert len(render(Demo({"messages": TURNS}), tokenizer)) > 5
        assert not caplog.records
        tokenizer("so many words that it says something")
        assert "longer than" in caplog.text
    finally:
        transformers.removeHandler(caplog.handler)


def test_a_tokenizer_without_a_template(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(DemosError, match="no chat template"):
        render(Demo({"messages": TURNS}), tokenizer)


def test_a_template_that_refuses(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('no system role here') }}"
    with pytest.raises(DemosError, match=r"^mine\.jsonl, line 2: .*no system role here"):
        render(Demo({"messages": TURNS}, origin="mine.jsonl, line 2"), tokenizer)
    with pytest.raises(DemosError, match="^the chat template"):
        render(Demo({"messages": TURNS}), tokenizer)


def sequences(*lengths):
    return [TokenSequence(np.full(n, i), np.zeros(n, bool)) for i, n in enumerate(lengths)]


def test_choosing_at_random_depends_on_the_seed_only():
    made = sequences(*range(1, 41))
    chosen = [len(s) for s in choose(made, 10, seed=3)]
    assert chosen == [len(s) for s in choose(made, 10, seed=3)]
    assert chosen != [len(s) for s in choose(made, 10, seed=4)]
    assert chosen == sorted(chosen)
    assert len(set(chosen)) == 10
    assert len(choose(made, None)) == len(choose(made, 100)) == 40


def test_choosing_the_longest():
    chosen = choose(sequences(5, 9, 1, 9, 7), 3, order="longest")
    assert [len(s) for s in chosen] == [9, 9, 7]


def test_tokens_are_limited_in_the_order_drawn():
    made = sequences(5, 9, 1, 9, 7)
    assert [len(s) for s in choose(made, 5, tokens=31)] == [5, 9, 1, 9, 7]
    some = choose(made, 5, seed=1, tokens=12)
    assert sum(len(s) for s in some) == 12
    assert sum(s.cut > 0 for s in some) <= 1
    assert all(np.array_equal(s.input_ids, np.full(len(s), s.input_ids[0])) for s in some)
    longest = choose(made, 3, order="longest", tokens=20)
    assert [(len(s), s.cut) for s in longest] == [(9, 0), (9, 0), (2, 5)]


def test_none_is_too_few():
    with pytest.raises(DemosError, match="at least 1"):
        choose(sequences(1), 0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "template", ["{% for a in range(99999) %}" * 2 + "{% endfor %}" * 2, "{{ 9**(9**9) }}"]
)
def test_a_template_without_an_end(tokenizer, template, monkeypatch):
    monkeypatch.setattr(rendering, "LONGEST_RENDERING", 0.2)
    tokenizer.chat_template = template
    with pytest.raises(DemosError, match="comes to no end: it takes more than 0.2 seconds"):
        render(Demo({"messages": TURNS}), tokenizer)


def test_a_template_that_takes_all_memory(tokenizer):
    tokenizer.chat_template = "{{ 'a' * 10**10 }}"
    with pytest.raises(DemosError, match="comes to no end: it takes more than 2 GB of memory"):
        render(Demo({"messages": TURNS}), tokenizer)
