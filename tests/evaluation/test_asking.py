"""Backends of lm-eval: what they are given, and that a server's answers count like our own."""

import inspect
from types import SimpleNamespace

import pytest

import easyep
from easyep.errors import EvaluationError, MissingDependencyError, UnknownNameError
from easyep.evaluation.asking import Asking
from easyep.loading import load_model, load_tokenizer
from easyep.resources import demo_model
from tests.evaluation.model_server import ModelServer

pytestmark = pytest.mark.filterwarnings("ignore")  # lm-eval and what it imports
TASK = "easyep_demo_math"


@pytest.fixture(scope="module")
def server():
    model = load_model(demo_model(), dtype="float32", device="cpu")
    with ModelServer(model, load_tokenizer(demo_model())) as running:
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def here():
    """What this process measures."""
    return easyep.evaluate("demo", [TASK], limit=5, dtype="float32", device="cpu", batch_size=5)


@pytest.mark.parametrize("endpoint", ["completions", "chat/completions"])
def test_a_server_is_measured_like_the_model_itself(server, here, endpoint):
    found = easyep.evaluate(
        "demo",
        [TASK],
        limit=5,
        backend=f"local-{endpoint.replace('/', '-')}",
        model_args={"base_url": f"{server.url}/{endpoint}", "auth_token": "secret"},
    )
    assert "secret" not in repr((found.settings, found.harness))
    assert found.settings["model_args"] == {"base_url": f"{server.url}/{endpoint}"}
    assert server.paths[-1] == f"/v1/{endpoint}"
    assert found.results == here.results
    ours, theirs = (
        [sample["filtered_resps"] for sample in each.harness["samples"][TASK]]
        for each in (here, found)
    )
    assert theirs == ours


def test_log_probabilities_come_from_the_server_too(server):
    from lm_eval.api.instance import Instance

    asked = [("What is 8 * 97?", "776"), ("a b", " c d e")]
    requests = [Instance("loglikelihood", {}, each, 0) for each in asked]
    path, args = demo_model(), {"base_url": f"{server.url}/completions"}
    ours = Asking(path, dtype="float32", device="cpu").open().loglikelihood(requests)
    theirs = Asking(path, backend="local-completions", args=args).open().loglikelihood(requests)
    for (mine, greedy), (other, other_greedy) in zip(ours, theirs, strict=True):
        assert other == pytest.approx(mine, abs=1e-4)
        assert greedy == other_greedy


def test_servers_that_are_not_there(monkeypatch):
    args = {"base_url": "http://127.0.0.1:9/v1/completions", "max_retries": 1}
    with pytest.raises(EvaluationError, match=TASK):
        easyep.evaluate("demo", [TASK], limit=1, backend="local-completions", model_args=args)


def test_a_key_in_the_address_is_not_shown():
    address = "http://user:hidden@127.0.0.1:9/v1/completions"
    args = {"base_url": address, "max_retries": 1}
    asking = Asking(demo_model(), backend="local-completions", args=args)
    assert asking.open_args["base_url"] == "http://127.0.0.1:9/v1/completions"
    assert asking._server_args()["base_url"] == address
    with pytest.raises(EvaluationError) as told:
        easyep.evaluate("demo", [TASK], limit=1, backend="local-completions", model_args=args)
    assert "hidden" not in str(told.value)


def test_backends_that_cannot_be_used():
    path = demo_model()
    with pytest.raises(UnknownNameError, match="vllm"):
        Asking(path, backend="vlm")
    with pytest.raises(EvaluationError, match="base_url=http"):
        Asking(path, backend="local-chat-completions")


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_engines_that_are_not_installed_name_their_extra(engine):
    pytest.importorskip("lm_eval")
    try:
        __import__(engine)
    except ImportError:
        with pytest.raises((MissingDependencyError, EvaluationError), match=engine):
            Asking(demo_model(), backend=engine).open()


def test_sglang_gets_what_lm_evals_class_takes(monkeypatch):
    """It is not started: the arguments are held against the class's own."""
    from lm_eval.models.sglang_causallms import SGLangLM

    given = []
    stand_in = SimpleNamespace(create_from_arg_obj=lambda *both: given.append(both))
    monkeypatch.setattr("lm_eval.api.registry.get_model", {"sglang": stand_in}.__getitem__)
    how = {"backend": "sglang", "args": {"tp_size": 2}, "dtype": "float16"}
    for thinking in (None, False, True):
        Asking(demo_model(), thinking=thinking, **how).open()
    for arguments, batch in given:
        assert {*arguments, *batch} <= set(inspect.signature(SGLangLM).parameters)
        assert (arguments["pretrained"], arguments["dtype"]) == (str(demo_model()), "float16")
        assert arguments["tp_size"] == 2
    assert [arguments.get("think_end_token") for arguments, _ in given] == [None, None, "</think>"]


def test_thinking_reaches_the_template_and_leaves_the_answer():
    path = demo_model()
    assert Asking(path)._thinking() == {}
    assert Asking(path, thinking=False)._thinking() == {"enable_thinking": False}
    told = {"enable_thinking": True, "think_end_token": "</think>"}
    assert Asking(path, backend="vllm", thinking=True)._thinking() == told
    address = {"base_url": "http://localhost/v1/chat/completions"}
    args = Asking(
        path, backend="local-chat-completions", args=address, thinking=True
    )._server_args()
    assert args["think_end_token"] == "</think>"
    assert args["base_url"] == address["base_url"]


def test_where_a_model_runs_is_no_part_of_what_it_answers():
    path, kind = demo_model(), "local-completions"
    one = Asking(path, backend=kind, args={"base_url": "http://a/v1", "num_concurrent": 4})
    other = Asking(path, backend=kind, args={"base_url": "http://b/v1"})
    assert one.identity == other.identity
    assert one.identity != Asking(path, dtype="float32").identity
