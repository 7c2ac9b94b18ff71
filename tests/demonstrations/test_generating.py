"""Answers of a model, from a server that behaves and from one that does not."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from easyep import cli
from easyep.artifacts import Demo
from easyep.demonstrations import generating, read
from easyep.demonstrations.in_process import InProcess
from easyep.demonstrations.server import Answer, Server, split_thinking
from easyep.errors import DemosError, ServerRefusedError
from easyep.loading import load_model, load_tokenizer
from easyep.resources import demo_model


class Api(ThreadingHTTPServer):
    """A local chat completions server; `plan` maps a question to what its requests meet in turn."""

    daemon_threads = True

    def __init__(self, plan):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = {question: list(steps) for question, steps in plan.items()}
        self.requests, self.lock, self.running, self.most = [], threading.Lock(), 0, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the tests

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
            steps = self.server.plan.get(question, [])
            step = steps.pop(0) if steps else {"content": f"answer: {question}"}
        time.sleep(0.02)
        with self.server.lock:
            self.server.running -= 1
        self._meet(step)

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers), None))
        self._send(404, b"{}")

    def _meet(self, step):
        if step == "drop":
            self.connection.close()
        elif str(step).startswith("http"):
            self._send(302, b"", {"Location": step})
        elif step == "hang":
            time.sleep(2)
        elif step == "garbage":
            self._send(200, b"<html>not json")
        elif step == "shape":
            self._send(200, b'{"choices": []}')
        elif step == "deep":
            self._send(200, b"[" * 100_000)
        elif step == "half":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
        elif step == "stall":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            time.sleep(2)
        elif isinstance(step, int):
            self._send(step, b'{"error": {"message": "no luck"}}', {"Retry-After": "0"})
        else:
            step = dict(step)
            finish = step.pop("finish", "stop")
            choice = {"message": {"role": "assistant", **step}, "finish_reason": finish}
            self._send(200, json.dumps({"choices": [choice]}).encode())

    def _send(self, code, body, headers=()):
        self.send_response(code)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def api():
    started = []

    def start(**plan):
        started.append(Api(plan))
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def server(api, **options) -> Server:
    return Server(api.url, "m", timeout=0.5, first_wait=0.01, **options)


def prompts(*questions, **metadata) -> list[Demo]:
    return [
        Demo({"messages": [{"role": "user", "content": question}]}, metadata)
        for question in questions
    ]


GARBLED = [
    {"content": "half of a pair: \ud800"},
    {"content": 5},
    {"content": "a", "reasoning": ["b"]},
    {"tool_calls": 3},
    {"tool_calls": "f"},
]
STATUS = [408, 429, 500, 502, 503, 529]


@pytest.mark.parametrize(
    "trouble", ["drop", "hang", "stall", "half", "garbage", "shape", "deep", *GARBLED, *STATUS]
)
def test_what_passes_is_tried_again(api, trouble):
    started = api(q=[trouble, trouble])
    answer = server(started, retries=2).answer([{"role": "user", "content": "q"}], [])
    assert answer.content == "answer: q"
    assert len(started.requests) == 3


def test_what_does_not_pass_is_told(api):
    started = api(q=["garbage"] * 9)
    with pytest.raises(DemosError, match="did not answer in 3 attempts: what came back is not"):
        server(started, retries=2).answer([{"role": "user", "content": "q"}], [])


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_server_that_would_refuse_every_request_is_asked_no_more(api, tmp_path, code):
    started = api(q0=[code])
    demos = prompts(*(f"q{i}" for i in range(30)))
    with pytest.raises(ServerRefusedError, match=f"HTTP {code}: no luck"):
        generating.generate(demos, server(started).answer, tmp_path / "j", concurrency=1)
    assert len(started.requests) < 5


def test_nobody_there(tmp_path):
    nobody = Server("http://127.0.0.1:9", "m", retries=0)
    with pytest.raises(DemosError, match="no connection"):
        generating.generate(prompts("q"), nobody.answer, tmp_path / "j")
    with pytest.raises(DemosError, match="no address"):
        Server("localhost", "m").answer([], [])


def test_the_request(api):
    started = api()
    asked = server(started, api_key="secret", sampling={"max_tokens": 5})
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "1"},
    ]
    asked.answer(turns, [{"type": "function"}])
    ((path, headers, body),) = started.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert (body["model"], body["max_tokens"], body["tools"]) == ("m", 5, [{"type": "function"}])
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    assert body["messages"][2]["tool_call_id"] == body["messages"][1]["tool_calls"][0]["id"]
    assert turns[2] == {"role": "tool", "content": "1"}


def test_the_key_is_for_that_server_alone(api):
    other = api()
    asked = server(api(q=[f"{other.url}/elsewhere"]), api_key="secret")
    with pytest.raises(DemosError, match="404"):
        asked.answer([{"role": "user", "content": "q"}], [])
    ((path, headers, _),) = other.requests
    assert path.endswith("/elsewhere")
    assert "Authorization" not in headers
    assert "secret" not in repr(asked)


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_every_spelling_of_the_address_leads_there(base):
    assert Server("http://h" + base, "m").endpoint == "http://h/v1/chat/completions"


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
    patient = Server(started.url, "m", timeout=60)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        generating.generate(
            prompts("slow", "fast", "later"), patient.answer, tmp_path / "j",
            concurrency=2, progress=Impatient(),
        )  # fmt: skip
    assert time.monotonic() - begin < 1.5
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


def test_a_model_in_process():
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
