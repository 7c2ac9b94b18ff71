"""How fast a streaming run is, beside its bar."""

import time

from easyep import memory
from easyep.observation.weights.reading import WeightReader
from easyep.progress import Noting, Task

_EVERY = 1.0  # seconds


class Speed:
    """Advances a task layer by layer, and says how fast it goes.

    Args:
        task: counts tokens, each once for every layer.
        reader: counts what is read.
        tokens: of all demonstrations.
        layers: of the model.
    """

    def __init__(self, task: Task, reader: WeightReader, tokens: int, layers: int) -> None:
        self._task = task
        self._reader = reader
        self._tokens = tokens
        self._layers = layers
        self._layer = 0
        self._passed = 0
        self._begin = time.monotonic()
        self._read_before = reader.bytes_read
        self._told = 0.0

    def begins(self, layer: int) -> None:
        """A layer begins."""
        self._layer = layer
        self.tell()

    def passed(self, tokens: int) -> None:
        """So many tokens have passed the layer."""
        self._passed += tokens
        self._task.advance(tokens)
        self.tell()

    def tell(self) -> None:
        """Say how it goes, once a second at most."""
        now = time.monotonic()
        if now - self._told < _EVERY or not isinstance(self._task, Noting):
            return
        self._told = now
        self._task.note(self.line(now - self._begin))

    def line(self, seconds: float) -> str:
        """Layer, speeds since the beginning, memory now."""
        read = self._reader.bytes_read - self._read_before
        return (
            f"layer {self._layer + 1} of {self._layers}, "
            f"{self._passed / self._layers / seconds:,.1f} tokens/s, "
            f"{read / 1e6 / seconds:,.0f} MB/s read, {memory.taken() / 1e9:.1f} GB"
        )
