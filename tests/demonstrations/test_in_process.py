"""Answers of a model that is loaded here, through chat templates of six families."""

import json
import threading
from types import SimpleNamespace

import pytest
import torch

from easyep import cli
from easyep.artifacts import Demo
from easyep.demonstrations import render
from easyep.demonstrations.generating import prompt_messages
from easyep.demonstrations.in_process import InProcess
from easyep.demonstrations.server import Answer
from easyep.errors import DemosError
from easyep.loading import load_model, load_tokenizer
from easyep.resources import demo_model
from tests.demonstrations.test_chat_templates import ASKED, CALLED, FAMILIES, FOLDER, TOOL

# Their templates write calls, but not which tools there are; or neither.
KNOW_NO_TOOLS = {"deepseek_r1", "deepseek_v31", "mixtral"}


class Recorder:
    """In place of a model: keeps what it was asked, and ends at once."""

    config = SimpleNamespace()
    device = "cpu"

    def __init__(self, eos: int) -> None:
        self.generation_config = SimpleNamespace(eos_token_id=eos)

    def generate(self, input_ids, **_):
        self.asked = input_ids[0]
        return torch.cat([input_ids, torch.tensor([[self.generation_config.eos_token_id]])], 1)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def ask(family, messages, tools) -> tuple[str, InProcess]:
    """What the model reads, and who asked it."""
    tokenizer = load_tokenizer(demo_model())
    tokenizer.chat_template = (FOLDER / f"{family}.jinja").read_text(encoding="utf-8")
    model = Recorder(tokenizer.eos_token_id)
    asked = InProcess(model, tokenizer, max_tokens=5, temperature=0, seed=0)
    assert asked.answer(messages, tools).content == ""
    return tokenizer.decode(model.asked), asked


def test_where_the_model_states_no_end_the_tokenizer_s_is_one():
    model, tokenizer = load_model(demo_model()), load_tokenizer(demo_model())
    asked = InProcess(model, tokenizer, max_tokens=60, temperature=0, seed=0)
    question = [{"role": "user", "content": "What is 12 + 7?"}]
    expected = asked.answer(question, [])
    assert expected.finish == "stop"
    model.generation_config.eos_token_id = None
    assert asked.answer(question, []) == expected


def test_an_answer_that_nobody_wants_any_more_ends():
    model, tokenizer = load_model(demo_model()), load_tokenizer(demo_model())
    asked = InProcess(model, tokenizer, max_tokens=60, temperature=0, seed=0)
    question = [{"role": "user", "content": "What is 12 + 7?"}]
    whole = asked.answer(question, [], threading.Event())
    assert whole.finish == "stop"

    class Soon(threading.Event):
        """Set when it was asked for twice: before the first token, and behind it."""

        times = 0

        def is_set(self):
            self.times += 1
            return self.times > 1

    begun = asked.answer(question, [], Soon())
    assert begun.finish == "length"
    assert whole.content.startswith(begun.content)
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(DemosError, match="nobody wants"):
        asked.answer(question, [], stopped)


@pytest.mark.parametrize(("turns", "tools"), [(ASKED, []), (CALLED, [TOOL])])
def test_the_model_is_asked_what_calibration_shows_it(family, turns, tools):
    prompt = prompt_messages(Demo({"messages": turns}))
    text, asked = ask(family, prompt, tools)
    shown = set()
    for style in ("thinking", "plain"):
        content = {"messages": [*prompt, turns[-1]]} | ({"tools": tools} if tools else {})
        sequence = render(Demo(content), asked._tokenizer, style=style)
        shown.add(asked._tokenizer.decode(sequence.input_ids))
    assert any(each.startswith(text) for each in shown), (text, shown)


def test_tools_are_never_left_out(family):
    text, asked = ask(family, CALLED[:1], [TOOL])
    assert "Find a price." in text
    assert asked.tools_as_text == (family in KNOW_NO_TOOLS)
    text, asked = ask(family, CALLED[:1], [])
    assert "Find a price." not in text
    assert not asked.tools_as_text


def test_a_model_answers():
    path = demo_model()
    asked = InProcess(
        load_model(path, dtype="float32"), load_tokenizer(path),
        max_tokens=40, temperature=0, seed=0,
    )  # fmt: skip
    answer = asked.answer([{"role": "user", "content": "What is 36 - 21?"}], [])
    assert answer == Answer("6 - 1 = 5, 3 - 2 = 1\nanswer: 15")
    short = InProcess(asked._model, asked._tokenizer, max_tokens=3, temperature=0, seed=0)
    assert short.answer([{"role": "user", "content": "What is 36 - 21?"}], []).finish == "length"
    with pytest.raises(DemosError, match="refuses"):
        asked.answer([{"role": "system", "content": "x"}], [])


def test_the_command_says_that_tools_became_text(capsys, tmp_path):
    asked = tmp_path / "p.jsonl"
    asked.write_text(json.dumps({"messages": CALLED[:1], "tools": [TOOL]}) + "\n")
    words = ["demos", "generate", "--prompts", asked, "--model", "demo", "--temperature", 0]
    with pytest.raises(SystemExit):
        cli.main([str(word) for word in [*words, "--output", tmp_path / "out.jsonl"]])
    assert "the chat template of demo leaves tools out" in " ".join(capsys.readouterr().err.split())
