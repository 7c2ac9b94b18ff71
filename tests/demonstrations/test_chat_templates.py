"""Demonstrations through chat templates of six families.

The files in `templates/` were written for these tests after the published formats: they write the
same marks, drop the same things and refuse the same types as the families' own;
`test_published_templates` compares them where those are at hand.
"""

from pathlib import Path

import pytest

from easyep.artifacts import Demo
from easyep.demonstrations import domain_file, domains, read, render
from easyep.errors import DemosError
from easyep.loading import load_tokenizer
from easyep.resources import demo_model

FOLDER = Path(__file__).parent / "templates"
FAMILIES = sorted(path.stem for path in FOLDER.glob("*.jinja"))

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Find a price.",
        "parameters": {"type": "object", "properties": {"item": {"type": "string"}}},
    },
}
ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 3?"},
    {"role": "assistant", "reasoning_content": "first thought", "content": "It is 5."},
    {"role": "user", "content": "And 4 + 4?"},
    {"role": "assistant", "reasoning_content": "second\nthought", "content": "It is 8."},
]
CALLED = [
    {"role": "user", "content": "What does tea cost?"},
    {
        "role": "assistant",
        "reasoning_content": "ask the tool",
        "content": None,
        "tool_calls": [{"function": {"name": "look_up", "arguments": {"item": "tea", "n": 2}}}],
    },
    {"role": "tool", "content": '{"price": 3.5}'},
    {"role": "assistant", "reasoning_content": "now I know", "content": "It costs 3.50."},
]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(demo_model())


@pytest.fixture(params=FAMILIES)
def family(request, tokenizer):
    tokenizer.chat_template = (FOLDER / f"{request.param}.jinja").read_text(encoding="utf-8")
    return request.param


def shown(tokenizer, messages, style, tools=None) -> tuple[str, str]:
    """What the model reads, and the part of it that counts as response."""
    content = {"messages": messages} | ({"tools": tools} if tools else {})
    sequence = render(Demo(content), tokenizer, style=style)
    return (
        tokenizer.decode(sequence.input_ids),
        tokenizer.decode(sequence.input_ids[sequence.is_response]),
    )


def test_the_last_answer_has_its_thinking(family, tokenizer):
    text, response = shown(tokenizer, ASKED, "thinking")
    assert text.count("second\nthought") == 1
    assert text.count("It is 8.") == 1
    assert text.index("And 4 + 4?") < text.index("second") < text.index("It is 8.")
    assert "first thought" not in text
    assert "It is 5." in response
    assert "second\nthought" in response
    assert "It is 8." in response
    assert "And" not in response


def test_plain_answers_have_none(family, tokenizer):
    text, response = shown(tokenizer, ASKED, "plain")
    assert "thought" not in text
    assert "It is 5." in response
    assert "It is 8." in response
    assert "2 + 3" not in response


AUTO = {"mixtral": "plain"}


def test_auto_follows_the_template(family, tokenizer):
    text = shown(tokenizer, ASKED, "auto")
    assert text == shown(tokenizer, ASKED, AUTO.get(family, "thinking"))


ASSISTANT, END = "<\uff5cAssistant\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"
AFTER_THINKING = {
    "deepseek_r1": f"{ASSISTANT}<think>\nsecond\nthought\n</think>\n\nIt is 8.{END}",
    "deepseek_v31": f"{ASSISTANT}<think>\nsecond\nthought\n</think>\n\nIt is 8.{END}",
    "qwen3": "<|im_start|>assistant\n<think>\nsecond\nthought\n</think>\n\nIt is 8.<|im_end|>\n",
    "glm4_5": "<|assistant|>\n<think>second\nthought</think>\nIt is 8.",
    "gpt_oss": "<|start|>assistant<|channel|>analysis<|message|>second\nthought<|end|>"
    "<|start|>assistant<|channel|>final<|message|>It is 8.<|return|>",
    "mixtral": " <think>\nsecond\nthought\n</think>\n\nIt is 8.",
}
AFTER_PLAIN = {
    "deepseek_r1": f"{ASSISTANT}It is 8.{END}",
    "deepseek_v31": f"{ASSISTANT}</think>It is 8.{END}",
    "qwen3": "<|im_start|>assistant\n<think>\n\n</think>\n\nIt is 8.<|im_end|>\n",
    "glm4_5": "/nothink<|assistant|>\n<think></think>\nIt is 8.",
    "gpt_oss": "<|start|>assistant<|channel|>final<|message|>It is 8.<|return|>",
    "mixtral": "[/INST] It is 8.",
}


def test_the_last_turn_is_what_serving_writes(family, tokenizer):
    end = tokenizer.eos_token if family == "mixtral" else ""
    assert shown(tokenizer, ASKED, "thinking")[0].endswith(AFTER_THINKING[family] + end)
    assert shown(tokenizer, ASKED, "plain")[0].endswith(AFTER_PLAIN[family] + end)


@pytest.mark.parametrize("style", ["thinking", "plain"])
def test_tools_are_shown_whatever_the_template_knows(family, tokenizer, style):
    text, response = shown(tokenizer, CALLED, style, [TOOL])
    assert "Find a price." in text
    assert "Find a price." not in response
    assert text.count("What does tea cost?") == 1
    assert "None" not in text
    assert "{'" not in text
    for part in ("look_up", "tea", "It costs 3.50."):
        assert part in response
    assert "3.5}" in text
    assert "3.5}" not in response
    assert ("now I know" in response) == (style == "thinking")


def test_json_arguments_do_as_well(family, tokenizer):
    call = {"name": "look_up", "arguments": '{"item": "tea", "n": 2}'}
    messages = [CALLED[0], CALLED[1] | {"tool_calls": [{"function": call}]}, *CALLED[2:]]
    assert shown(tokenizer, messages, "thinking", [TOOL]) == shown(
        tokenizer, CALLED, "thinking", [TOOL]
    )


LATE_SYSTEM = (
    "{% set said = messages[0].content if messages[0].role == 'system' %}"
    "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}[Q]"
    "{{ said ~ '. ' if said and loop.last }}{{ m.content }}[/Q]{% else %}{{ m.content }};"
    "{% endif %}{% endfor %}"
)
CLOSED = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}<assistant>"
    "{{ '<think></think>' if not enable_thinking }}{% endif %}"
)
OPENED = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think></think>{% endif %}"
    "{{ m.content }}|{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "style", "end", "answers"),
    [
        # Mistral's: the system prompt stands in the last question, as long as it is the last.
        (
            LATE_SYSTEM, "plain",
            "[Q]What is 2 + 3?[/Q]It is 5.;[Q]Be brief.. And 4 + 4?[/Q]It is 8.;",
            "It is 5.;It is 8.;",
        ),
        # Gemma's and others: serving says with empty thinking that there is to be none.
        (CLOSED, "plain", "<assistant><think></think>It is 8.|", "It is 5.|It is 8.|"),
        # Kimi's: an answer in the past has empty thinking before what the content holds.
        (
            OPENED, "thinking", "<assistant><think>\nsecond\nthought\n</think>\n\nIt is 8.|",
            "<think></think>It is 5.|<think>\nsecond\nthought\n</think>\n\nIt is 8.|",
        ),
    ],
)  # fmt: skip
def test_what_serving_writes_differently_before_an_answer(tokenizer, template, style, end, answers):
    tokenizer.chat_template = template
    text, response = shown(tokenizer, ASKED, style)
    assert text.endswith(end)
    assert response == answers


def test_tools_that_are_described_in_another_language_than_json(tokenizer):
    tokenizer.chat_template = (
        "{% for t in tools or [] %}// {{ t.function.description }}\ntype {{ t.function.name }};"
        "{% endfor %}{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}"
        "{% endfor %}|{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    text, response = shown(tokenizer, CALLED, "plain", [TOOL])
    assert text.startswith("// Find a price.\ntype look_up;<user>")
    assert response == 'look_up{"item": "tea", "n": 2}|It costs 3.50.|'


def test_tool_results_of_one_turn_alternate(tokenizer):
    tokenizer.chat_template = (FOLDER / "mixtral.jinja").read_text()
    call = CALLED[1]["tool_calls"][0]
    messages = [CALLED[0], CALLED[1] | {"tool_calls": [call, call]}, CALLED[2], *CALLED[2:]]
    assert shown(tokenizer, messages, "plain", [TOOL])[0].count("3.5}") == 2


def test_a_template_without_a_system_role(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    )
    assert shown(tokenizer, ASKED[:3], "plain")[0] == (
        "<user>Be brief.\n\nWhat is 2 + 3?<assistant>It is 5."
    )
    assert "Find a price." in shown(tokenizer, CALLED, "plain", [TOOL])[0]


@pytest.mark.parametrize("domain", domains())
def test_ready_domains_go_through_every_template(domain, family, tokenizer):
    for demo in read(domain_file(domain))[::6]:
        last = demo.content["messages"][-1]
        for style in ("thinking", "plain"):
            sequence = render(demo, tokenizer, style=style)
            response = tokenizer.decode(sequence.input_ids[sequence.is_response])
            whole = tokenizer.decode(sequence.input_ids)
            # This tokenizer does not know the templates' marks: a token may join one with a ">".
            assert last["content"].strip().lstrip("> ") in response, demo.origin
            thought = last.get("reasoning_content", "").strip()
            if thought:
                assert (thought in response) == (style == "thinking"), demo.origin
            for message in demo.content["messages"]:
                if message["role"] == "user":
                    assert message["content"].strip() in whole, demo.origin
                    assert message["content"].strip() not in response, demo.origin


def test_a_template_that_hides_the_thinking_for_good(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}{% if m.role != 'assistant' %}{{ m.content }}"
        "{% endif %}{% endfor %}"
    )
    with pytest.raises(DemosError, match="drops the last answer"):
        shown(tokenizer, ASKED, "thinking")


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([{}], "no function with a 'name'"),
        ([{"function": {"name": "f", "arguments": "{"}}], "not valid JSON"),
        ([{"function": {"name": "f", "arguments": [1]}}], "must be a JSON object"),
        ("f(1)", "must be a list"),
    ],
)
def test_bad_tool_calls_are_named(calls, message):
    turn = {"role": "assistant", "content": None, "tool_calls": calls}
    with pytest.raises(DemosError, match=message):
        Demo.from_json({"messages": [turn]})
