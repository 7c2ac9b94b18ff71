"""Many answers of a model: asked for at once, resumed, sorted out, written."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from easyep import cli
from easyep.artifacts import Demo
from easyep.demonstrations import generating, read
from easyep.demonstrations.server import Server, split_thinking
from easyep.errors import DemosError, ServerRefusedError
from tests.demonstrations.local_api import prompts, server


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_server_that_would_refuse_every_request_is_asked_no_more(api, tmp_path, code):
    started = api(q0=[code])
    demos = prompts(*(f"q{i}" for i in range(30)))
    with pytest.raises(ServerRefusedError, match=f"HTTP {code}: no luck"):
        generating.generate(demos, server(started).answer, tmp_path / "j", concurrency=1)
    assert len(started.requests) < 5


def test_what_waits_for_another_attempt_stops_too(api, tmp_path):
    started = api(first=[503], second=[401])
    patient = Server(started.url, "m", timeout=30, first_wait=60)
    demos = prompts("first", "second")
    with pytest.raises(ServerRefusedError):
        generating.generate(demos, patient.answer, tmp_path / "j", concurrency=2)
    for thread in threading.enumerate():
        if thread.name == "asking":
            thread.join(60)
            assert not thread.is_alive()
    assert len(started.requests) == 2


@pytest.mark.parametrize(
    "reply",
    [
        {"content": "<think>\nhm\n</think>\n\nyes"},
        {"content": "hm\n</think>\n\nyes"},
        {"content": "yes", "reasoning_content": "hm"},
        {"content": "yes", "reasoning": "hm\n"},
    ],
)
def test_thinking_is_kept_apart(api, tmp_path, reply):
    made = generating.generate(prompts("q"), server(api(q=[reply])).answer, tmp_path / "j")
    assert made.lines[0]["messages"][-1] == {
        "role": "assistant",
        "content": "yes",
        "reasoning_content": "hm",
    }
    assert split_thinking("yes") == ("", "yes")


def test_bad_answers_are_left_out_and_counted(api, tmp_path):
    started = api(
        cut=[{"content": "and then", "finish": "length"}],
        thinks=[{"content": "<think>on and on", "finish": "length"}],
        filtered=[{"content": "x", "finish": "content_filter"}],
        refused=[{"content": "x", "refusal": "I cannot"}],
        empty=[{"content": "<think>hm</think>"}],
        broken=[400],
        wrong=[{"content": "the answer is 5"}],
        calls=[{"tool_calls": [{"function": {"name": "f", "arguments": '{"a": '}}]}],
        right=[{"content": "so $\\boxed{\\frac{8}{2}}$"}],
    )
    demos = [
        *prompts("cut", "thinks", "filtered", "refused", "empty", "broken", "calls"),
        *prompts("wrong", "right", check={"kind": "math", "answer": "4"}),
        *prompts("free"),
    ]
    made = generating.generate(demos, server(started).answer, tmp_path / "j", check=True)
    assert made.counts == {
        "kept": 2, "truncated": 2, "refused": 2, "empty": 1, "failed": 1, "wrong": 2,
    }  # fmt: skip
    assert [line["messages"][0]["content"] for line in made.lines] == ["right", "free"]
    assert "HTTP 400" in made.failure
    unchecked = generating.generate(demos, server(started).answer, tmp_path / "j")
    assert unchecked.counts["kept"] == 4  # what was refused for its form is asked again


def test_programs_of_the_model_run_with_leave_only(api, tmp_path):
    spec = {"kind": "program", "tests": "assert f() == 1"}
    demos = prompts("right", "wrong", check=spec)
    answers = {
        key: [{"content": f"```python\ndef f():\n    return {n}\n```"}]
        for key, n in (("right", 1), ("wrong", 2))
    }
    started = api(**answers)
    with pytest.raises(DemosError, match="2 of 2 prompts .*--run-programs"):
        generating.generate(demos, server(started).answer, tmp_path / "j", check=True)
    assert not started.requests
    made = generating.generate(
        demos, server(started).answer, tmp_path / "j", check=True, run_programs=True
    )
    assert made.counts == {"kept": 1, "wrong": 1}


def test_a_check_that_cannot_be_done_is_named(api, tmp_path):
    (demo,) = prompts("q", check={"kind": "math", "answer": 4})
    demos = [replace(demo, origin="mine.jsonl, line 7")]
    with pytest.raises(DemosError, match=r"mine\.jsonl, line 7: a check of kind 'math'"):
        generating.generate(demos, server(api()).answer, tmp_path / "j", check=True)


def test_it_goes_on_where_it_ended(api, tmp_path):
    demos = prompts("a", "b", "c")
    first = api(b=["garbage"] * 9)
    made = generating.generate(demos, server(first, retries=0).answer, tmp_path / "j")
    assert made.counts == {"kept": 2, "failed": 1}
    with open(tmp_path / "j", "a") as file:
        file.write('{"key": "half a li')  # as a run that was killed leaves it
    second = api()
    made = generating.generate(demos, server(second).answer, tmp_path / "j")
    assert made.counts == {"kept": 3}
    assert [body["messages"][-1]["content"] for _, _, body in second.requests] == ["b"]
    third = api()
    assert len(generating.generate(demos, server(third).answer, tmp_path / "j").lines) == 3
    assert not third.requests
    other = generating.generate(demos, server(third).answer, tmp_path / "j", settings="another")
    assert len(third.requests) == len(other.lines) == 3


def test_an_answer_of_any_signs_is_not_asked_for_again(api, tmp_path):
    content = "one\u2028two\u2029three\x85four\x0bfive\x1esix"
    started = api(q=[{"content": content}])
    for _ in range(2):
        made = generating.generate(prompts("q"), server(started).answer, tmp_path / "j")
        assert made.lines[0]["messages"][-1]["content"] == content
    assert len(started.requests) == 1


def test_half_of_a_sign_in_the_journal_is_asked_for_again(api, tmp_path):
    for asked in (1, 2):
        started = api()
        made = generating.generate(prompts("q"), server(started).answer, tmp_path / "j")
        assert (len(started.requests), made.counts) == (1, {"kept": 1})
        if asked == 1:
            text = (tmp_path / "j").read_text()
            (tmp_path / "j").write_text(text.replace("answer: q", "\\ud800"))


def test_half_of_a_sign_is_no_answer(api, tmp_path):
    call = {"function": {"name": "f", "arguments": '{"a": "\ud800"}'}}
    started = api(q=[{"tool_calls": [call]}, {"content": "x", "finish": "\udfff"}])
    made = generating.generate(
        prompts("q", "r"), server(started, retries=2).answer, tmp_path / "j", concurrency=1
    )
    assert [line["messages"][-1]["content"] for line in made.lines] == ["answer: q", "answer: r"]


def test_requests_run_at_once_but_not_too_many(api, tmp_path):
    started = api()
    demos = prompts(*(f"q{i}" for i in range(24)))
    made = generating.generate(demos, server(started).answer, tmp_path / "j", concurrency=4)
    assert 2 <= started.most <= 4
    assert [line["messages"][0]["content"] for line in made.lines] == [f"q{i}" for i in range(24)]


def test_who_interrupts_does_not_wait(api, tmp_path):
    class Impatient:
        @contextmanager
        def task(self, title, total, unit):
            yield self

        def advance(self, amount=1):
            if amount:
                raise KeyboardInterrupt

    started = api(slow=["hang"])
    patient = Server(started.url, "m", timeout=120)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        generating.generate(
            prompts("slow", "fast", "later"), patient.answer, tmp_path / "j",
            concurrency=2, progress=Impatient(),
        )  # fmt: skip
    assert time.monotonic() - begin < 30
    assert "answer: fast" in (tmp_path / "j").read_text()


def test_prompts_lose_their_old_answer_and_their_thinking():
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "hm"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    assert generating.prompt_messages(Demo({"messages": turns})) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    with pytest.raises(DemosError, match="nothing to answer"):
        generating.prompt_messages(Demo({"messages": turns[1:2]}))
    with pytest.raises(DemosError, match="token ids"):
        generating.prompt_messages(Demo({"input_ids": [1]}))


def test_the_command(api, capsys, tmp_path):
    started = api(
        q=[{"content": "<think>hm</think>yes"}], r=[{"content": "x", "finish": "length"}] * 2
    )
    asked, output = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    asked.write_text("".join(json.dumps(dict(d.content)) + "\n" for d in prompts("q", "r")))
    words = ["demos", "generate", "--prompts", asked, "--server", started.url, "--model", "m"]
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in [*words, "--output", output]])
    assert stop.value.code == 0
    assert "1 of 2 answers kept; left out: 1 truncated" in capsys.readouterr().err
    assert read(output)[0].content["messages"][-1]["reasoning_content"] == "hm"
    asked.write_text(asked.read_text().splitlines()[1] + "\n")
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in [*words, "--output", tmp_path / "none.jsonl"]])
    assert stop.value.code == 1
    assert "none of 1 answers can be kept: 1 truncated" in capsys.readouterr().err
    assert not (tmp_path / "none.jsonl").exists()


def test_the_demo_model_is_asked_what_it_can_read(capsys, tmp_path):
    words = ["demos", "generate", "--prompts", "facts", "--model", "demo", "--max-tokens", "1"]
    with pytest.raises(SystemExit):
        cli.main([*words, "--output", str(tmp_path / "out.jsonl")])
    assert " of 50 answers" in capsys.readouterr().err  # there are no facts for other models
