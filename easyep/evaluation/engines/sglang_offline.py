"""SGLang in this process, streaming, so that the time of each token is known."""

import asyncio
from typing import Any

from easyep.errors import EvaluationError
from easyep.evaluation.engines.packaged import TAKES, Answer, imported
from easyep.evaluation.engines.settings import EngineSettings, open_entries
from easyep.evaluation.throughput.timing import RequestTiming


class SglangOffline:
    """Opens checkpoints with SGLang."""

    takes = TAKES

    def open(self, model: str, settings: EngineSettings) -> "SglangSession":
        """Load a checkpoint; see `Engine.open`."""
        return SglangSession(imported("sglang", "SGLang"), model, settings)


class SglangSession:
    """A model in SGLang; greedy, the end of sequence ignored, no prefix kept between requests."""

    def __init__(self, sglang: Any, model: str, settings: EngineSettings) -> None:
        self._version = str(sglang.__version__)
        arguments: dict[str, Any] = {
            "dtype": settings.dtype,
            "tp_size": settings.tensor_parallel,
            "context_length": settings.max_model_len,
            "max_running_requests": settings.max_batch_size,
            "trust_remote_code": settings.trust_remote_code,
            "disable_radix_cache": True,
            "skip_tokenizer_init": True,
            "log_level": "error",
        }
        if settings.memory is not None:
            raise EvaluationError(
                "SGLang's mem_fraction_static leaves activations out, so it cannot be held to a "
                "number of bytes; give --extra-args '{\"mem_fraction_static\": 0.8}' instead of "
                "--memory-budget"
            )
        self._arguments = {**arguments, **settings.extra_args}
        try:
            self._engine = sglang.Engine(model_path=model, **self._arguments)
        except (ValueError, RuntimeError) as error:
            raise EvaluationError(f"SGLang cannot load {model}: {str(error).strip()}") from error
        # It talks with its processes on one event loop, for as long as it lives.
        self._loop = getattr(self._engine, "loop", None) or asyncio.get_event_loop()

    def generate(self, prompts: list[list[int]], output_len: int) -> list[RequestTiming]:
        """Answer prompts; see `Session.generate`."""
        asked = {"temperature": 0.0, "max_new_tokens": output_len, "ignore_eos": True}

        async def one(prompt: list[int]) -> RequestTiming:
            answer = Answer()
            stream = await self._engine.async_generate(
                input_ids=prompt, sampling_params=asked, stream=True
            )
            async for told in stream:
                answer.has(int(told["meta_info"]["completion_tokens"]))
            return answer.timing("SGLang", output_len)

        async def together() -> list[RequestTiming]:
            return list(await asyncio.gather(*map(one, prompts)))

        return self._loop.run_until_complete(together())

    def peak_memory(self) -> int | None:
        return None

    def capacity(self, tokens: int) -> int | None:
        """Requests of `tokens` tokens for which SGLang has cache."""
        total = self._engine.get_server_info().get("max_total_num_tokens")
        return int(total) // tokens if total else None

    def describe(self) -> dict[str, Any]:
        return {"engine": "sglang", "sglang": self._version, **open_entries(self._arguments)}

    def close(self) -> None:
        self._engine.shutdown()
