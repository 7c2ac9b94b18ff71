"""A server is measured as it behaves, and one that misbehaves is told of."""

import asyncio
import base64
import socket
import threading
import time

import pytest

from easyep import resources
from easyep.errors import EvaluationError
from easyep.evaluation.engines import EngineSettings, engine
from tests.evaluation.engines.fake_server import FakeServer

PROMPTS = [[5, 6, 7], [8, 9, 10], [11, 12, 13], [14, 15, 16]]


@pytest.fixture
def server():
    made = FakeServer()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def opened(server: FakeServer, **settings):
    return engine("openai").open(
        str(resources.demo_model()), EngineSettings(base_url=server.url, **settings)
    )


def test_requests_run_together_and_are_timed_apart(server):
    server.prefill = 0.5
    session = opened(server, api_key="secret", extra_body={"top_k": 1})
    timings = session.generate(PROMPTS, 5)
    assert server.at_once == 4
    for each in timings:
        assert each.tokens == 5
        # Lower bounds only: a busy machine makes everything later, single tokens among it.
        assert each.ttft >= server.prefill
        assert each.last - each.sent >= server.prefill + 4 * server.step
        assert len(each.itl) == 4
    asked = server.asked[-1]
    assert sorted(each["prompt"] for each in server.asked[1:]) == PROMPTS
    assert (asked["model"], asked["max_tokens"], asked["top_k"]) == ("served", 5, 1)
    assert asked["ignore_eos"] is True
    assert server.headers[-1]["Authorization"] == "Bearer secret"
    assert session.describe()["prompts"] == "ids"
    assert "secret" not in str(session.describe())
    assert session.peak_memory() is session.capacity(9) is None


def test_a_key_in_the_address_is_sent_and_not_shown(server):
    address = server.url.replace("http://", "http://user:hidden@")
    body = {"api_key": "hidden", "top_k": 1}
    settings = EngineSettings(base_url=address, api_key="other", extra_body=body)
    session = engine("openai").open(str(resources.demo_model()), settings)
    sent = base64.b64decode(server.headers[-1]["Authorization"].removeprefix("Basic "))
    assert sent == b"user:hidden"
    assert server.asked[-1]["api_key"] == "hidden"
    assert session.describe()["base_url"] == f"{server.url}/v1"
    assert "hidden" not in str(session.describe())
    for server.fault in ("busy", "short", "breaks", "fails", "no json"):
        with pytest.raises(EvaluationError) as told:
            session.generate(PROMPTS[:1], 4)
        assert server.url in str(told.value)
        assert "hidden" not in str(told.value)


def test_nobody_at_an_address_with_a_key():
    settings = EngineSettings(base_url="http://user:hidden@127.0.0.1:9")
    with pytest.raises(EvaluationError, match="no server answers at http://127.0.0.1:9") as told:
        engine("openai").open(str(resources.demo_model()), settings)
    assert "hidden" not in str(told.value)


def test_requests_come_when_their_time_has_come(server):
    times = [0.0, 0.1, 0.2, 0.3]
    session = opened(server)
    start = time.perf_counter()
    timings = session.serve(PROMPTS, 3, times, 4)
    # A lower bound only: a busy machine makes everything later.
    assert all(each.sent - start >= when for each, when in zip(timings, times, strict=True))
    assert [each.tokens for each in timings] == [3] * 4


def test_no_more_are_under_way_than_may_be(server):
    server.prefill = 0.5
    timings = opened(server).serve(PROMPTS, 2, [0.0] * 4, 2)
    assert server.at_once == 2
    # Waiting for room is not waiting for the server.
    assert timings[3].sent >= min(each.last for each in timings[:2])


def test_length_is_believed_where_usage_is_not_told(server):
    server.usage = False
    assert [each.tokens for each in opened(server).generate(PROMPTS, 3)] == [3] * 4


def test_in_a_notebook_where_a_loop_runs_already(server):
    async def cell():
        return opened(server).generate(PROMPTS, 3)

    assert [each.tokens for each in asyncio.run(cell())] == [3] * 4


def test_events_with_several_tokens(server):
    server.per_event = 2
    arrivals = opened(server).generate(PROMPTS[:1], 5)[0].arrivals
    assert sum(tokens for _, tokens in arrivals) == 5
    assert len(arrivals) == 3


def test_a_token_without_text_counts(server):
    server.fault = "no text yet"
    assert len(opened(server).generate(PROMPTS[:1], 4)[0].arrivals) == 4


def test_servers_that_want_text_get_text_of_that_length(server):
    server.fault = "ids"
    session = opened(server)
    assert session.describe()["prompts"] == "text"
    prompt = list(range(40, 72))
    session.generate([prompt], 2)
    from easyep.loading import load_tokenizer

    tokenizer = load_tokenizer(resources.demo_model())
    sent = server.asked[-1]["prompt"]
    assert abs(len(tokenizer.encode(sent, add_special_tokens=False)) - len(prompt)) <= 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("short", "answered with 3 tokens, not 4: it does not know ignore_eos"),
        ("breaks", "ended an answer in the middle"),
        ("no json", "streams what is no completion"),
        ("fails", "out of cache"),
        ("busy", "HTTP 503.*overloaded"),
        ("busy without end", "HTTP 503: overloaded"),
        ("line without end", "a line without an end"),
        ("answer without end", "an answer without an end"),
        ("nested", "streams what is no completion"),
    ],
)
def test_misbehaviour_is_told(server, fault, message):
    session = opened(server)
    server.fault = fault
    with pytest.raises(EvaluationError, match=message):
        session.generate(PROMPTS, 4)


def test_a_server_without_models(server):
    server.fault = "no models"
    with pytest.raises(EvaluationError, match="names no model; give --served-model-name"):
        opened(server)
    assert opened(server, served_model_name="mine").generate(PROMPTS, 2)
    assert server.asked[-1]["model"] == "mine"


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(EvaluationError, match="no server answers"):
        engine("openai").open("m", EngineSettings(base_url=url))
    with pytest.raises(EvaluationError, match="broke off|no server"):
        engine("openai").open("m", EngineSettings(base_url=url, served_model_name="m"))
    with pytest.raises(EvaluationError, match="--base-url"):
        engine("openai").open("m", EngineSettings())
