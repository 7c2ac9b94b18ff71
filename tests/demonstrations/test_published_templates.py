"""Demonstrations through the chat templates that model authors published.

llama.cpp's source comes with many of them, in `models/templates`; LLAMA_CPP_SOURCE says where it
is. Those in `templates/` here were written for easyep and are compared with them.

    LLAMA_CPP_SOURCE=.../llama.cpp python -m pytest -m slow tests/demonstrations
"""

import os
from pathlib import Path

import pytest

from easyep.artifacts import Demo
from easyep.demonstrations import domain_file, domains, read, render
from easyep.loading import load_tokenizer
from easyep.resources import demo_model
from tests.demonstrations.test_chat_templates import ASKED, CALLED, FOLDER, TOOL, shown

PUBLISHED = Path(os.environ.get("LLAMA_CPP_SOURCE", "")) / "models" / "templates"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (PUBLISHED / "Qwen-Qwen3-0.6B.jinja").is_file(),
        reason="LLAMA_CPP_SOURCE does not name llama.cpp's source",
    ),
]

# Of families with routed experts; the small dense models share their family's template.
NAMES = [
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    "deepseek-ai-DeepSeek-V3.1",
    "deepseek-ai-DeepSeek-V3.2",
    "GLM-4.6",
    "GLM-4.7-Flash",
    "google-gemma-4-31B-it",
    "Kimi-K2-Instruct",
    "Kimi-K2-Thinking",
    "MiniMax-M1",
    "MiniMax-M2",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "openai-gpt-oss-120b",
    "Qwen-Qwen3-0.6B",
    "Qwen3-Coder",
    "Qwen3.5-4B",
    "StepFun3.5-Flash",
    "ibm-granite-granite-4.0",
    "inclusionai-ling-3.0-flash",
]
KEEP_THOUGHTS = {"inclusionai-ling-3.0-flash"}  # of earlier turns as well
OURS = {
    "deepseek_r1": ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "<\uff5cUser\uff5c>"),
    "glm4_5": ("GLM-4.6", "<|user|>"),
    "gpt_oss": ("openai-gpt-oss-120b", "<|start|>user"),
    "qwen3": ("Qwen-Qwen3-0.6B", "<|im_start|>user"),
}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(demo_model())


def take(tokenizer, path: Path) -> None:
    tokenizer.chat_template = path.read_text(encoding="utf-8")


# The one published for a distilled R1 knows a switch that R1's own does not.
@pytest.mark.parametrize(
    ("family", "style"),
    [(f, s) for f in OURS for s in ("thinking", "plain") if (f, s) != ("deepseek_r1", "plain")],
)
def test_those_written_here_say_the_same(tokenizer, family, style):
    name, first = OURS[family]
    take(tokenizer, FOLDER / f"{family}.jinja")
    ours = shown(tokenizer, ASKED, style)
    take(tokenizer, PUBLISHED / f"{name}.jinja")
    theirs = shown(tokenizer, ASKED, style)
    # What stands before, such as the date, is of no concern here.
    assert ours[0][ours[0].index(first) :] == theirs[0][theirs[0].index(first) :]
    assert ours[1] == theirs[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("style", ["thinking", "plain"])
def test_turns_tools_and_thinking(tokenizer, name, style):
    take(tokenizer, PUBLISHED / f"{name}.jinja")
    text, response = shown(tokenizer, ASKED, style)
    assert "Be brief." in text
    assert "It is 5." in response
    assert "It is 8." in response
    for asked in ("Be brief.", "2 + 3", "4 + 4"):
        assert asked not in response
    assert ("first thought" in text) == (name in KEEP_THOUGHTS and style == "thinking")
    assert text.count("second\nthought") == response.count("second\nthought")
    assert text.count("second\nthought") == (style == "thinking")
    text, response = shown(tokenizer, CALLED, style, [TOOL])
    assert "Find a price." in text
    assert "Find a price." not in response
    assert "What does tea cost?" not in response
    assert "look_up" in response
    assert "It costs 3.50." in response
    assert "price" not in response
    assert ("now I know" in response) == (style == "thinking")


@pytest.mark.parametrize("name", NAMES)
def test_the_last_answer_follows_what_serving_writes(tokenizer, name):
    take(tokenizer, PUBLISHED / f"{name}.jinja")
    plain = [{k: v for k, v in m.items() if k != "reasoning_content"} for m in ASKED]
    for style, thinking, turns in (("thinking", True, ASKED), ("plain", False, plain)):
        prompt = tokenizer.apply_chat_template(
            turns[:-1], tokenize=False, add_generation_prompt=True,
            enable_thinking=thinking, thinking=thinking,
        )  # fmt: skip
        text, _ = shown(tokenizer, ASKED, style)
        # A template that opens the thinking for good has no other way to be plain.
        assert text.startswith(prompt.removesuffix("<think>\n").removesuffix("<think>")), style


@pytest.mark.parametrize("name", NAMES)
def test_ready_domains(tokenizer, name):
    take(tokenizer, PUBLISHED / f"{name}.jinja")
    for demo in (demo for domain in domains() for demo in read(domain_file(domain))[::9]):
        last = demo.content["messages"][-1]
        for style in ("thinking", "plain"):
            sequence = render(demo, tokenizer, style=style)
            response = tokenizer.decode(sequence.input_ids[sequence.is_response])
            assert last["content"].strip().lstrip("> ") in response, demo.origin
            thought = last.get("reasoning_content", "").strip()
            if thought:
                assert (thought in response) == (style == "thinking"), demo.origin
            for message in demo.content["messages"]:
                if message["role"] == "user":
                    assert message["content"].strip() not in response, demo.origin


def test_a_question_that_moves(tokenizer):
    """Mistral's template puts the system prompt into the last question, while it is the last."""
    take(tokenizer, PUBLISHED / "mistralai-Mistral-Nemo-Instruct-2407.jinja")
    sequence = render(Demo({"messages": ASKED}), tokenizer, style="plain")
    assert tokenizer.decode(sequence.input_ids).endswith(
        "[INST]Be brief.\n\nAnd 4 + 4?[/INST]It is 8.<|end|>"
    )
