"""vLLM in this process, stepped by hand so that the time of each token is known."""

import time
from typing import Any

from easyep.errors import EvaluationError, MissingDependencyError
from easyep.evaluation.engines.settings import EngineSettings
from easyep.evaluation.throughput.timing import RequestTiming


class VllmOffline:
    """Opens checkpoints with vLLM."""

    def open(self, model: str, settings: EngineSettings) -> "VllmSession":
        """Load a checkpoint; see `Engine.open`."""
        try:
            import vllm
        except ImportError as error:
            raise MissingDependencyError(
                f"the backend vllm needs vLLM ({error}): pip install vllm, or measure a running "
                "server with --backend openai --base-url URL"
            ) from None
        return VllmSession(vllm, model, settings)


class VllmSession:
    """A model in vLLM; greedy, the end of sequence ignored, no prefix kept between requests."""

    def __init__(self, vllm: Any, model: str, settings: EngineSettings) -> None:
        self._vllm, self._requests = vllm, 0
        arguments: dict[str, Any] = {
            "dtype": settings.dtype,
            "tensor_parallel_size": settings.tensor_parallel,
            "max_model_len": settings.max_model_len,
            "max_num_seqs": settings.max_batch_size,
            "trust_remote_code": settings.trust_remote_code,
            "enable_prefix_caching": False,
            "skip_tokenizer_init": True,
            "disable_log_stats": True,
        }
        if settings.memory is not None:
            arguments["gpu_memory_utilization"] = _share(settings.memory, settings.tensor_parallel)
        self._arguments = {**arguments, **settings.extra_args}
        try:
            self._engine = vllm.LLM(model=model, **self._arguments).llm_engine
        except (ValueError, RuntimeError) as error:
            raise EvaluationError(f"vLLM cannot load {model}: {str(error).strip()}") from error

    def generate(self, prompts: list[list[int]], output_len: int) -> list[RequestTiming]:
        """Answer prompts; see `Session.generate`."""
        asked = self._vllm.SamplingParams(
            temperature=0.0,
            max_tokens=output_len,
            min_tokens=output_len,
            ignore_eos=True,
            detokenize=False,
        )
        sent: dict[str, float] = {}
        for prompt in prompts:
            name = f"bench-{self._requests}"
            self._requests += 1
            sent[name] = time.perf_counter()
            self._engine.add_request(name, {"prompt_token_ids": prompt}, asked)
        arrivals: dict[str, list[tuple[float, int]]] = {name: [] for name in sent}
        seen = dict.fromkeys(sent, 0)
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                tokens, now = len(output.outputs[0].token_ids), time.perf_counter()
                if tokens > seen[output.request_id]:
                    arrivals[output.request_id].append((now, tokens - seen[output.request_id]))
                    seen[output.request_id] = tokens
        wrong = {tokens for tokens in seen.values() if tokens != output_len}
        if wrong:
            raise EvaluationError(f"vLLM made {min(wrong)} tokens, not {output_len}")
        return [RequestTiming(sent[name], tuple(arrivals[name])) for name in sent]

    def peak_memory(self) -> int | None:
        return None

    def capacity(self, tokens: int) -> int | None:
        """Requests of `tokens` tokens for which vLLM has blocks of cache."""
        cache = self._engine.vllm_config.cache_config
        if not cache.num_gpu_blocks:
            return None
        return int(cache.num_gpu_blocks // -(-tokens // cache.block_size))

    def describe(self) -> dict[str, Any]:
        return {"engine": "vllm", "vllm": self._vllm.__version__, **self._arguments}

    def close(self) -> None:
        core = getattr(self._engine, "engine_core", None)
        if core is not None and hasattr(core, "shutdown"):
            core.shutdown()
        del self._engine


def _share(nbytes: int, devices: int) -> float:
    """The part of each accelerator's memory that vLLM is to take."""
    import torch

    total = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    if nbytes > total * devices:
        raise EvaluationError(
            f"a budget of {nbytes / 1e9:.0f} GB needs more than {devices} accelerators of "
            f"{total / 1e9:.0f} GB; raise --tensor-parallel-size"
        )
    return round(nbytes / devices / total, 4)
