"""Answers of the demo model from servers that people run; see `real_servers` for what they need.

LLAMA_CPP_SOURCE=.../llama.cpp python -m pytest -m slow tests/demonstrations
"""

import json
import threading

import pytest

from easyep import cli
from easyep.demonstrations import domain_file, generating, read
from easyep.demonstrations.in_process import InProcess
from easyep.demonstrations.server import Server
from easyep.errors import DemosError
from easyep.loading import load_model, load_tokenizer
from easyep.resources import demo_model
from tests.demonstrations import real_servers

pytestmark = pytest.mark.slow
GREEDY = {"max_tokens": 60, "temperature": 0, "seed": 0}


@pytest.fixture(scope="module", params=real_servers.KINDS)
def server(request, tmp_path_factory):
    lacking = real_servers.missing(request.param)
    if lacking:
        pytest.skip(lacking)
    made = real_servers.prepare(request.param, tmp_path_factory.mktemp("server"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def own():
    """What the model answers in this process."""
    model = load_model(demo_model(), dtype="float32")
    return InProcess(model, load_tokenizer(demo_model()), **GREEDY)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    lines = domain_file("math", "demo").read_text(encoding="utf-8").splitlines()[:8]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def ask(server, **options):
    asked = {"first_wait": 0.05, "timeout": 60.0, **options}
    return Server(server.url, str(demo_model()), sampling=GREEDY, **asked).answer


def test_its_answers_are_those_of_the_model(server, own, prompts, tmp_path, capsys):
    output = tmp_path / "own.jsonl"
    words = ["demos", "generate", "--prompts", prompts, "--server", server.url]
    words += ["--model", demo_model(), "--temperature", 0, "--max-tokens", 60, "--output", output]
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in [*words, "--json"]])
    printed = capsys.readouterr()
    assert stop.value.code == 0, printed.err
    assert json.loads(printed.out)["counts"] == {"kept": 8}
    for asked, made in zip(read(prompts), read(output), strict=True):
        expected = own.answer(generating.prompt_messages(asked), [])
        assert made.content["messages"][-1]["content"] == expected.content


def test_what_is_cut_is_told(server, prompts, tmp_path):
    short = Server(server.url, str(demo_model()), sampling=GREEDY | {"max_tokens": 3}).answer
    made = generating.generate(read(prompts), short, tmp_path / "journal")
    assert made.counts == {"truncated": 8}


def test_a_refused_request_is_told_with_its_reason(server, prompts, tmp_path):
    system = {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]}
    prompts.write_text(json.dumps(system) + "\n", encoding="utf-8")
    # The template of the demo model knows no system; the servers answer that with 500.
    with pytest.raises(DemosError, match=r"did not answer in 2 attempts: HTTP 500: .+"):
        generating.generate(read(prompts), ask(server, retries=1), tmp_path / "journal")


def test_a_server_that_dies_and_comes_back(server, own, prompts, tmp_path):
    demos, journal, asked = read(prompts), tmp_path / "journal", []

    def dying(messages, tools, stopped):
        asked.append(messages)
        if len(asked) == 4:
            server.kill()
        return ask(server, retries=1)(messages, tools, stopped)

    made = generating.generate(demos, dying, journal, concurrency=1)
    assert made.counts == {"kept": 3, "failed": 5}
    assert "no connection" in made.failure

    waiting = threading.Timer(1.0, server.start)
    waiting.start()  # while the client is asking already
    made = generating.generate(demos, ask(server, retries=12), journal, concurrency=2)
    waiting.join()
    assert made.counts == {"kept": 8}
    for demo, line in zip(demos, made.lines, strict=True):
        expected = own.answer(generating.prompt_messages(demo), [])
        assert line["messages"][-1]["content"] == expected.content
