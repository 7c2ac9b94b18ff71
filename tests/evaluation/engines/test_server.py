"""A server is measured as it behaves, and one that misbehaves is told of."""

import socket
import threading

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
    session = opened(server, api_key="secret", extra_body={"top_k": 1})
    timings = session.generate(PROMPTS, 5)
    assert server.at_once == 4
    for each in timings:
        assert each.tokens == 5
        # A lower bound only: a busy machine makes everything later.
        assert each.ttft >= server.prefill
        assert each.tpot >= server.step * 0.9
        assert len(each.itl) == 4
    asked = server.asked[-1]
    assert sorted(each["prompt"] for each in server.asked[1:]) == PROMPTS
    assert (asked["model"], asked["max_tokens"], asked["top_k"]) == ("served", 5, 1)
    assert asked["ignore_eos"] is True
    assert server.headers[-1]["Authorization"] == "Bearer secret"
    assert session.describe()["prompts"] == "ids"
    assert "secret" not in str(session.describe())
    assert session.peak_memory() is session.capacity(9) is None


def test_length_is_believed_where_usage_is_not_told(server):
    server.usage = False
    assert [each.tokens for each in opened(server).generate(PROMPTS, 3)] == [3] * 4


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
