"""transformers' continuous batching: a scheduler, a paged cache, prefill in between decoding."""

from typing import Any

from easyep.errors import EvaluationError, MemoryExhaustedError, first_line, tells_of_memory
from easyep.evaluation.engines.in_process import TAKES, LoadedModel
from easyep.evaluation.engines.settings import EngineSettings
from easyep.evaluation.throughput.timing import RequestTiming


class ContinuousBatch:
    """Opens checkpoints with transformers."""

    takes = TAKES | {"extra_args"}

    def open(self, model: str, settings: EngineSettings) -> "ContinuousBatchSession":
        """Load a checkpoint; see `Engine.open`."""
        return ContinuousBatchSession(model, settings)


class ContinuousBatchSession:
    """A model in memory, behind transformers' scheduler; its cache is made for one batch."""

    def __init__(self, path: str, settings: EngineSettings) -> None:
        self._loaded = LoadedModel(path, settings)
        self._extra = dict(settings.extra_args)

    def generate(self, prompts: list[list[int]], output_len: int) -> list[RequestTiming]:
        """Answer prompts; see `Session.generate`."""
        from transformers import ContinuousBatchingConfig, GenerationConfig

        length = len(prompts[0]) + output_len
        self._loaded.check_room(len(prompts), length)
        asked = GenerationConfig(max_new_tokens=output_len, do_sample=False, eos_token_id=-1)
        blocks: dict[str, Any] = {"page_size": 32, "max_batch_tokens": 2048, **self._extra}
        # Each request begins a page of its own, and one more holds what is being written.
        blocks.setdefault("num_blocks", len(prompts) * (-(-length // blocks["page_size"]) + 1))
        try:
            settings = ContinuousBatchingConfig(**blocks)
        except (TypeError, ValueError) as error:
            raise EvaluationError(
                f"transformers' continuous batching does not take these extra arguments: "
                f"{first_line(error)}"
            ) from error
        with self._loaded.peak.measured():
            made = self._loaded.model.generate_batch(
                prompts,
                generation_config=asked,
                continuous_batching_config=settings,
                record_timestamps=True,
                warmup=self._loaded.device.type != "cpu",
            )
        self._loaded.note_room(len(prompts), length)
        failed = [each.error for each in made.values() if each.error]
        if failed or len(made) != len(prompts):
            raise _error(failed[0] if failed else "requests were lost")
        timings = []
        for each in made.values():
            if len(each.generated_tokens) != output_len or not each.timestamps:
                raise EvaluationError(
                    f"transformers' continuous batching made {len(each.generated_tokens)} tokens, "
                    f"not {output_len}"
                )
            arrivals = tuple((when, 1) for when in each.timestamps)
            timings.append(RequestTiming(each.created_time, arrivals))
        return timings

    def peak_memory(self) -> int | None:
        return self._loaded.peak_memory()

    def capacity(self, tokens: int) -> int | None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"engine": "transformers, continuous batching", **self._loaded.describe()}

    def close(self) -> None:
        self._loaded.close()


def _error(reason: str) -> EvaluationError:
    if tells_of_memory(reason):
        return MemoryExhaustedError(reason)
    return EvaluationError(
        "transformers' continuous batching cannot run this model: "
        f"{reason.strip().splitlines()[0]}; --backend transformers runs whatever generates"
    )
