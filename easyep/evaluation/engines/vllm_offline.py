"""vLLM in this process, stepped by hand so that the time of each token is known."""

from typing import Any

from easyep.errors import EvaluationError
from easyep.evaluation.engines.packaged import TAKES, Answer, imported
from easyep.evaluation.engines.settings import EngineSettings, open_entries
from easyep.evaluation.throughput.timing import RequestTiming


class VllmOffline:
    """Opens checkpoints with vLLM."""

    takes = TAKES

    def open(self, model: str, settings: EngineSettings) -> "VllmSession":
        """Load a checkpoint; see `Engine.open`."""
        return VllmSession(imported("vllm", "vLLM"), model, settings)


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
        answers: dict[str, Answer] = {}
        for prompt in prompts:
            name = f"bench-{self._requests}"
            self._requests += 1
            answers[name] = Answer()
            self._engine.add_request(name, {"prompt_token_ids": prompt}, asked)
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                answers[output.request_id].has(len(output.outputs[0].token_ids))
        return [answer.timing("vLLM", output_len) for answer in answers.values()]

    def peak_memory(self) -> int | None:
        return None

    def capacity(self, tokens: int) -> int | None:
        """Requests of `tokens` tokens for which vLLM has blocks of cache."""
        cache = self._engine.vllm_config.cache_config
        if not cache.num_gpu_blocks:
            return None
        return int(cache.num_gpu_blocks // -(-tokens // cache.block_size))

    def describe(self) -> dict[str, Any]:
        return {"engine": "vllm", "vllm": self._vllm.__version__, **open_entries(self._arguments)}

    def close(self) -> None:
        core = getattr(self._engine, "engine_core", None)
        if core is not None and hasattr(core, "shutdown"):
            core.shutdown()
        del self._engine


def _share(nbytes: int, devices: int) -> float:
    """The part of each accelerator's memory that vLLM is to take."""
    import torch

    if not torch.cuda.is_available():
        raise EvaluationError(
            "without an accelerator vLLM reserves what VLLM_CPU_KVCACHE_SPACE says for its cache, "
            "GiB, beside the weights; set that variable instead of --memory-budget"
        )
    total = torch.cuda.get_device_properties(0).total_memory
    if nbytes > total * devices:
        raise EvaluationError(
            f"a budget of {nbytes / 1e9:.0f} GB needs more than {devices} accelerators of "
            f"{total / 1e9:.0f} GB; raise --tensor-parallel-size"
        )
    return round(nbytes / devices / total, 4)
