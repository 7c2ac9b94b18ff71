"""What the two engines of transformers share: a loaded model, its size, its memory."""

from pathlib import Path
from typing import Any

from easyep import loading, memory
from easyep.errors import MemoryExhaustedError
from easyep.evaluation.engines.peak_memory import PeakMemory
from easyep.evaluation.engines.settings import EngineSettings

# What of `EngineSettings` a model in this process takes.
TAKES = frozenset({"dtype", "device", "memory", "trust_remote_code"})


class LoadedModel:
    """A model of transformers in this process, and the memory that it takes.

    Args:
        path: the checkpoint's directory.
        settings: dtype, device and whether its own code may run.

    Raises:
        CheckpointError, UnsupportedModelError: as `loading.load_model`.
    """

    def __init__(self, path: str, settings: EngineSettings) -> None:
        self.model = loading.load_model(
            Path(path),
            dtype=settings.dtype,
            device=settings.device,
            trust_remote_code=settings.trust_remote_code,
        )
        self.device: Any = self.model.device
        held = [*self.model.parameters(), *self.model.buffers()]
        self.weights = sum(each.nbytes for each in {id(each): each for each in held}.values())
        self.peak = PeakMemory(self.device)
        self._per_request = 0.0  # bytes that a request took at most so far, of the same length
        self._length = 0

    def check_room(self, requests: int, length: int) -> None:
        """Refuse a batch that would not fit, by what a smaller one took.

        Without an accelerator nothing else would: the system ends the process instead.

        Raises:
            MemoryExhaustedError: the batch would not fit.
        """
        if self.device.type != "cpu" or length > self._length:
            return
        needed, free = self._per_request * requests, memory.available()
        if needed > free:
            raise MemoryExhaustedError(
                f"{requests} requests would take {needed / 1e9:.1f} GB, of which {free / 1e9:.1f} "
                "GB are free"
            )

    def note_room(self, requests: int, length: int) -> None:
        """Remember what the batch that `peak` measured took."""
        if self.peak.growth is not None:
            self._per_request, self._length = self.peak.growth / requests, length

    def peak_memory(self) -> int | None:
        """Bytes of the weights and of what the last measured work took beside them."""
        return None if self.peak.growth is None else self.weights + self.peak.growth

    def describe(self) -> dict[str, Any]:
        import torch
        import transformers

        where = str(self.device)
        if self.device.type == "cuda":
            where = torch.cuda.get_device_name(self.device)
        return {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "device": where,
            "threads": torch.get_num_threads(),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "weights_bytes": self.weights,
        }

    def close(self) -> None:
        import gc

        del self.model
        gc.collect()
        if self.device.type != "cpu":
            import torch

            torch.accelerator.empty_cache()
