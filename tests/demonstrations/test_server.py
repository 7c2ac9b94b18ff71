"""One answer of a server: how it is asked, and what is not taken for an answer."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from easyep.demonstrations import generating
from easyep.demonstrations import server as server_module
from easyep.demonstrations.server import Server
from easyep.errors import DemosError, ServerRefusedError
from tests.demonstrations.local_api import prompts, server

QUESTION = [{"role": "user", "content": "q"}]
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
    waiting = 1.0 if trouble in ("hang", "stall") else 30.0
    answer = server(started, waiting, retries=2).answer([{"role": "user", "content": "q"}], [])
    assert answer.content == "answer: q"
    assert len(started.requests) == 3


def test_what_does_not_pass_is_told(api):
    started = api(q=["garbage"] * 9)
    with pytest.raises(DemosError, match="did not answer in 3 attempts: what came back is not"):
        server(started, retries=2).answer([{"role": "user", "content": "q"}], [])


@pytest.mark.parametrize("trouble", ["drip", "header", "slow refusal"])
def test_an_answer_without_end_ends(api, trouble):
    asked = Server(api(q=[trouble]).url, "m", timeout=0.3, retries=0)
    begin = time.monotonic()
    with pytest.raises(DemosError, match="no whole answer within 0.3 s|HTTP 400"):
        asked.answer(QUESTION, [])
    assert 0.3 <= time.monotonic() - begin < 30


def test_an_answer_without_end_is_asked_for_again(api):
    started = api(q=["drip", "drip"])
    asked = server(started, 1.0, retries=2)
    assert asked.answer(QUESTION, []).content == "answer: q"
    assert len(started.requests) == 3


def test_a_server_leads_to_nothing_but_http(api):
    with socket.create_server(("127.0.0.1", 0)) as ftp:  # which would never say a word
        ftp.settimeout(0.2)
        asked = server(api(q=[f"ftp://127.0.0.1:{ftp.getsockname()[1]}/x"]), retries=0)
        with pytest.raises(DemosError, match="unknown url type: ftp"):
            asked.answer(QUESTION, [])
        with pytest.raises(TimeoutError):
            ftp.accept()


def test_a_server_that_leads_in_a_circle_is_told_in_one_line():
    class Circle(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", "/round")
            self.end_headers()

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Circle) as started:
        thread = threading.Thread(target=started.serve_forever, daemon=True)
        thread.start()
        asked = Server(f"http://127.0.0.1:{started.server_port}/v1", "m", timeout=10, retries=0)
        with pytest.raises(DemosError, match="HTTP 302.*infinite loop") as told:
            asked.answer(QUESTION, [])
        started.shutdown()
        thread.join()
    assert "\n" not in str(told.value)


def test_a_greeting_of_tls_without_end_ends():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def drip():
            accepted, _ = listening.accept()
            with accepted:
                accepted.sendall(b"\x16\x03\x03\x40\x00")  # a long record of a handshake
                while not over.wait(0.05):
                    accepted.sendall(b"\x00")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(DemosError, match="no whole answer within 0.3 s"):
            Server(url, "m", timeout=0.3, retries=0).answer(QUESTION, [])
        assert time.monotonic() - begin < 30
        over.set()


def test_an_answer_can_be_too_large(api, monkeypatch):
    monkeypatch.setattr(server_module, "_LARGEST_REPLY", 1 << 20)
    with pytest.raises(DemosError, match="the reply is larger than 1 MiB"):
        server(api(q=["endless"]), retries=0).answer(QUESTION, [])


def test_nobody_there(tmp_path):
    nobody = Server("http://127.0.0.1:9", "m", retries=0)
    with pytest.raises(DemosError, match="no connection"):
        generating.generate(prompts("q"), nobody.answer, tmp_path / "j")
    with pytest.raises(DemosError, match="no address"):
        Server("localhost", "m").answer([], [])
    with pytest.raises(DemosError, match=r"a key cannot stand in the address.*\(http://host/v1\)"):
        Server("http://me:passw0rd@host/v1", "m")


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


@pytest.mark.parametrize("key", ["abc\r", "abc\n", "\u20ac"])
def test_a_key_that_cannot_be_sent(key):
    with pytest.raises(ServerRefusedError, match="such as the end of a line") as told:
        Server("http://127.0.0.1:9", "m", api_key=key)
    assert "abc" not in str(told.value)


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
