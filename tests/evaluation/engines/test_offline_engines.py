"""vLLM and SGLang behind the interface, with stand-ins that speak as the two do."""

import asyncio
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from easyep.errors import EvaluationError, MissingDependencyError, UnknownNameError
from easyep.evaluation.engines import BACKENDS, SUMMARIES, EngineSettings, engine

PROMPTS = [[1, 2, 3], [4, 5, 6]]


class FakeLLM:
    """vLLM's LLM with a llm_engine that makes `pace` tokens of every request a step."""

    short = False
    pace = 1

    def __init__(self, model: str, **arguments: Any) -> None:
        self.arguments, self.waiting = arguments, {}
        self.llm_engine = self
        blocks = SimpleNamespace(num_gpu_blocks=10, block_size=16)
        self.vllm_config = SimpleNamespace(cache_config=blocks)

    def add_request(self, name: str, prompt: dict[str, list[int]], asked: Any) -> None:
        assert set(prompt) == {"prompt_token_ids"}
        assert asked.ignore_eos
        self.waiting[name] = [0, asked.max_tokens - self.short]

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting)

    def step(self) -> list[Any]:
        outputs = []
        for name, state in self.waiting.items():
            state[0] = min(state[1], state[0] + self.pace)
            tokens = SimpleNamespace(token_ids=[0] * state[0])
            outputs.append(SimpleNamespace(request_id=name, outputs=[tokens]))
        self.waiting = {name: state for name, state in self.waiting.items() if state[0] < state[1]}
        return outputs


@pytest.fixture
def vllm(monkeypatch):
    made = ModuleType("vllm")
    made.LLM, made.__version__ = FakeLLM, "0"
    made.SamplingParams = lambda **arguments: SimpleNamespace(**arguments)
    monkeypatch.setitem(sys.modules, "vllm", made)
    return made


def test_vllm_tells_when_tokens_came(vllm, monkeypatch):
    monkeypatch.setattr(FakeLLM, "pace", 2)
    session = engine("vllm").open("m", EngineSettings(max_model_len=64, tensor_parallel=2))
    timings = session.generate(PROMPTS, 5)
    assert [[tokens for _, tokens in each.arrivals] for each in timings] == [[2, 2, 1]] * 2
    assert all(each.ttft > 0 and each.last > each.first for each in timings)
    said = session.describe()
    assert (said["tensor_parallel_size"], said["enable_prefix_caching"]) == (2, False)
    assert session.capacity(33) == 3  # ten blocks, three for each request
    assert len(session.generate(PROMPTS, 2)) == 2  # names are not used twice


def test_keys_are_no_part_of_what_an_engine_says(vllm):
    extra = {"hf_token": "hidden", "max_num_batched_tokens": 64}
    said = engine("vllm").open("m", EngineSettings(extra_args=extra)).describe()
    assert said["max_num_batched_tokens"] == 64
    assert "hidden" not in str(said)


def test_vllm_that_stops_early_is_refused(vllm, monkeypatch):
    monkeypatch.setattr(FakeLLM, "short", True)
    with pytest.raises(EvaluationError, match="made 3 tokens, not 4"):
        engine("vllm").open("m", EngineSettings()).generate(PROMPTS, 4)


def test_vllm_without_an_accelerator_cannot_be_held_to_bytes(vllm, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EvaluationError, match="VLLM_CPU_KVCACHE_SPACE"):
        engine("vllm").open("m", EngineSettings(memory=10**9))


class FakeEngine:
    """SGLang's Engine, streaming one token at a time with counts of all so far."""

    short = 0

    def __init__(self, model_path: str, **arguments: Any) -> None:
        self.closed = False

    async def async_generate(self, input_ids: Any, sampling_params: Any, stream: bool) -> Any:
        assert stream
        assert sampling_params["ignore_eos"]

        async def answers() -> Any:
            for made in range(1, sampling_params["max_new_tokens"] + 1 - self.short):
                await asyncio.sleep(0)
                yield {"meta_info": {"completion_tokens": made}}

        return answers()

    def get_server_info(self) -> dict[str, int]:
        return {"max_total_num_tokens": 100}

    def shutdown(self) -> None:
        self.closed = True


@pytest.fixture
def sglang(monkeypatch):
    made = ModuleType("sglang")
    made.Engine, made.__version__ = FakeEngine, "0"
    monkeypatch.setitem(sys.modules, "sglang", made)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield made
    loop.close()
    asyncio.set_event_loop(None)


def test_sglang_tells_when_tokens_came(sglang):
    session = engine("sglang").open("m", EngineSettings())
    timings = session.generate(PROMPTS, 4)
    assert [[tokens for _, tokens in each.arrivals] for each in timings] == [[1] * 4] * 2
    assert session.capacity(30) == 3
    session.close()


def test_sglang_that_stops_early_is_refused(sglang, monkeypatch):
    monkeypatch.setattr(FakeEngine, "short", 1)
    with pytest.raises(EvaluationError, match="made 3 tokens, not 4"):
        engine("sglang").open("m", EngineSettings()).generate(PROMPTS, 4)


def test_sglang_cannot_be_held_to_bytes(sglang):
    with pytest.raises(EvaluationError, match="mem_fraction_static"):
        engine("sglang").open("m", EngineSettings(memory=10**9))


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_what_is_not_installed_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=f"pip install {name}"):
        engine(name).open("m", EngineSettings())


def test_an_unknown_backend():
    with pytest.raises(UnknownNameError, match="did you mean 'vllm'"):
        engine("vlm")
    assert set(SUMMARIES) == set(BACKENDS)
