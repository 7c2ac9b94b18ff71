"""An engine with a clock of its own, whose every number is known."""

from typing import Any

from easyep.errors import MemoryExhaustedError
from easyep.evaluation.throughput.timing import RequestTiming


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0


class FakeSession:
    """Takes `prefill` seconds per prompt token, then `step` + `each` x batch for a token of all.

    It runs out of memory above `room` requests, takes `weights` bytes and `cache` for each token.
    """

    def __init__(
        self,
        clock: Clock,
        calls: list[tuple[str, int]],
        name: str = "a",
        *,
        step: float = 1.0,
        each: float = 0.0,
        prefill: float = 0.1,
        room: int = 1000,
        weights: int = 1000,
        cache: int = 1,
        says: int | None = None,
        tells: bool = True,
    ) -> None:
        self.clock, self.calls, self.name = clock, calls, name
        self.step, self.each, self.prefill, self.room = step, each, prefill, room
        self.weights, self.cache, self.says, self.tells = weights, cache, says, tells
        self.peak: int | None = None
        self.closed = False
        self.prompts: list[list[list[int]]] = []

    def generate(self, prompts: list[list[int]], output_len: int) -> list[RequestTiming]:
        self.calls.append((self.name, len(prompts)))
        self.prompts.append(prompts)
        if len(prompts) > self.room:
            raise MemoryExhaustedError(f"no room for {len(prompts)}")
        sent, tokens = self.clock.now, sum(map(len, prompts))
        self.clock.now += self.prefill * tokens
        times = [self.clock.now]
        for _ in range(output_len - 1):
            self.clock.now += self.step + self.each * len(prompts)
            times.append(self.clock.now)
        self.peak = self.weights + self.cache * (tokens + len(prompts) * output_len)
        return [RequestTiming(sent, tuple((time, 1) for time in times))] * len(prompts)

    def peak_memory(self) -> int | None:
        return self.peak if self.tells else None

    def capacity(self, tokens: int) -> int | None:
        return self.says

    def describe(self) -> dict[str, Any]:
        return {"engine": "fake"}

    def close(self) -> None:
        self.closed = True
