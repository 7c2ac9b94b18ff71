"""When the tokens of a request came, and what follows from it.

Metrics are those of `vllm bench serve`, with the same names: TTFT (time to first token), TPOT (time
per output token after the first), ITL (the gaps between arrivals, pooled over requests) and E2EL
(the whole request). Times are seconds on one clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class RequestTiming:
    """One request.

    Attributes:
        sent: when it was handed to the engine.
        arrivals: (time, tokens) of each answer that brought tokens, in order; at least one.
    """

    sent: float
    arrivals: tuple[tuple[float, int], ...]

    @property
    def tokens(self) -> int:
        """Output tokens."""
        return sum(tokens for _, tokens in self.arrivals)

    @property
    def first(self) -> float:
        """When the first token came."""
        return self.arrivals[0][0]

    @property
    def last(self) -> float:
        """When the last token came."""
        return self.arrivals[-1][0]

    @property
    def ttft(self) -> float:
        """Seconds to the first token."""
        return self.first - self.sent

    @property
    def e2el(self) -> float:
        """Seconds to the last token."""
        return self.last - self.sent

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first arrival; None where nothing came after it."""
        later = self.tokens - self.arrivals[0][1]
        return (self.last - self.first) / later if later else None

    @property
    def itl(self) -> tuple[float, ...]:
        """Seconds between arrivals; an arrival with several tokens counts once."""
        times = [time for time, _ in self.arrivals]
        return tuple(b - a for a, b in pairwise(times))


@dataclass(frozen=True)
class RoundTiming:
    """Requests of one round, all with prompts of the same length.

    Attributes:
        input_len: tokens of each prompt.
        requests: at least one.
        paced: they arrived one by one, so that prefill and decode of different requests overlap
            and neither has a throughput of its own.
    """

    input_len: int
    requests: tuple[RequestTiming, ...]
    paced: bool = False

    @property
    def duration(self) -> float:
        """Seconds from the first request sent to the last token."""
        return max(each.last for each in self.requests) - self._start

    @property
    def prefill_throughput(self) -> float | None:
        """Prompt tokens per second until every request has its first token."""
        if self.paced:
            return None
        return self.input_len * len(self.requests) / (self._prefilled - self._start)

    @property
    def decode_throughput(self) -> float | None:
        """Output tokens per second while every request was generating.

        That is from the last first token to the first last one, so that no prefill and no
        half-empty batch is in it. None where the requests were not all under way together.
        """
        end = min(each.last for each in self.requests)
        seconds = end - self._prefilled
        if self.paced or seconds <= 0:
            return None
        arrivals = [arrival for each in self.requests for arrival in each.arrivals]
        return sum(n for time, n in arrivals if self._prefilled < time <= end) / seconds

    @property
    def output_throughput(self) -> float:
        """Output tokens per second of the whole round."""
        return sum(each.tokens for each in self.requests) / self.duration

    @property
    def total_token_throughput(self) -> float:
        """Prompt and output tokens per second of the whole round."""
        prompts = self.input_len * len(self.requests)
        return (prompts + sum(each.tokens for each in self.requests)) / self.duration

    @property
    def request_throughput(self) -> float:
        """Requests per second of the whole round."""
        return len(self.requests) / self.duration

    @property
    def _start(self) -> float:
        return min(each.sent for each in self.requests)

    @property
    def _prefilled(self) -> float:
        return max(each.first for each in self.requests)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` percent of `values` lie, linear between neighbours."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
