"""transformers, one batch: a forward pass over the prompts, then one for each further token.

Nothing is scheduled, so that the two phases are what they are called, and a batch of B is B
sequences in every pass. The cache is the model's own, so that every family works that
`generate` works with.
"""

import time
from typing import Any

from easyep.evaluation.engines.in_process import TAKES, LoadedModel
from easyep.evaluation.engines.settings import EngineSettings
from easyep.evaluation.throughput.timing import RequestTiming


class FixedBatch:
    """Opens checkpoints with transformers."""

    takes = TAKES

    def open(self, model: str, settings: EngineSettings) -> "FixedBatchSession":
        """Load a checkpoint; see `Engine.open`."""
        return FixedBatchSession(model, settings)


class FixedBatchSession:
    """A model in memory; greedy, without looking for an end of sequence."""

    def __init__(self, path: str, settings: EngineSettings) -> None:
        self._loaded = LoadedModel(path, settings)

    def generate(self, prompts: list[list[int]], output_len: int) -> list[RequestTiming]:
        """Answer prompts of one length; see `Session.generate`."""
        import torch

        requests, length = len(prompts), len(prompts[0]) + output_len
        self._loaded.check_room(requests, length)
        with self._loaded.peak.measured(), torch.inference_mode():
            sent = time.perf_counter()
            ids = torch.tensor(prompts, device=self._loaded.device)
            cache: Any = None
            arrivals = []
            for _ in range(output_len):
                out = self._loaded.model(
                    input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1
                )
                cache = out.past_key_values
                ids = out.logits[:, -1:].argmax(dim=-1)
                ids.tolist()  # as a server would, to send them; it waits for the device
                arrivals.append((time.perf_counter(), 1))
            del out, cache, ids
        self._loaded.note_room(requests, length)
        return [RequestTiming(sent, tuple(arrivals))] * requests

    def peak_memory(self) -> int | None:
        return self._loaded.peak_memory()

    def capacity(self, tokens: int) -> int | None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"engine": "transformers, fixed batch", **self._loaded.describe()}

    def close(self) -> None:
        self._loaded.close()
