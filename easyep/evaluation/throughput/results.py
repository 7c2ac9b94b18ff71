"""What was measured: points with their spread, and one model's gain over another.

Names in JSON are those of `vllm bench serve`'s results, where it has the same quantity.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from easyep.evaluation.throughput.timing import RoundTiming, percentile
from easyep.evaluation.throughput.workload import Workload

PERCENTILES = (50, 90, 95, 99)
LATENCIES = ("ttft", "tpot", "itl", "e2el")
RATES = (
    "prefill_throughput",
    "decode_throughput",
    "output_throughput",
    "total_token_throughput",
    "request_throughput",
)


@dataclass(frozen=True)
class Point:
    """One model under one workload.

    Attributes:
        model: what it is called.
        workload: lengths and batch.
        rounds: the repeats; none where memory ended.
        peak_memory: bytes at most, where the engine tells.
        ended: why there are no rounds.
    """

    model: str
    workload: Workload
    rounds: tuple[RoundTiming, ...]
    peak_memory: int | None = None
    ended: str = ""

    def rate(self, name: str) -> float | None:
        """The median over the rounds of one of `RATES`, per second; None where none tells."""
        values = self._values(name)
        return statistics.median(values) if values else None

    def latency(self, name: str, share: float = 50) -> float | None:
        """A percentile of one of `LATENCIES` over all requests of all rounds, seconds."""
        values = self._pooled(name)
        return percentile(values, share) if values else None

    def to_json(self) -> dict[str, Any]:
        workload = self.workload
        found: dict[str, Any] = {
            "model": self.model,
            "random_input_len": workload.input_len,
            "random_output_len": workload.output_len,
            "max_concurrency": workload.batch_size,
            "num_prompts": workload.requests,
            "request_rate": workload.request_rate if workload.paced else "inf",
        }
        if self.ended:
            return {**found, "completed": 0, "ended": self.ended}
        requests = [request for each in self.rounds for request in each.requests]
        found |= {
            "rounds": len(self.rounds),
            "completed": len(requests),
            "total_input_tokens": workload.input_len * len(requests),
            "total_output_tokens": sum(each.tokens for each in requests),
            "duration": statistics.median(each.duration for each in self.rounds),
            "peak_memory_bytes": self.peak_memory,
        }
        for name in RATES:
            values = self._values(name)
            found[name] = self.rate(name)
            found[f"std_{name}"] = statistics.stdev(values) if len(values) > 1 else None
            found[f"{name}_rounds"] = values
        for name in LATENCIES:
            found |= _latencies(name, self._pooled(name))
        return found

    def _values(self, name: str) -> list[float]:
        values = (getattr(each, name) for each in self.rounds)
        return [value for value in values if value is not None]

    def _pooled(self, name: str) -> list[float]:
        values = [getattr(each, name) for one in self.rounds for each in one.requests]
        if name == "itl":
            return [gap for gaps in values for gap in gaps]
        return [value for value in values if value is not None]


def _latencies(name: str, seconds: Sequence[float]) -> dict[str, float | None]:
    """Mean, median, standard deviation and percentiles, milliseconds."""
    if not seconds:
        return {}
    numbers = {
        f"mean_{name}_ms": statistics.fmean(seconds),
        f"median_{name}_ms": statistics.median(seconds),
        f"std_{name}_ms": statistics.pstdev(seconds),
        **{f"p{share}_{name}_ms": percentile(seconds, share) for share in PERCENTILES},
    }
    return {key: 1000 * value for key, value in numbers.items()}


@dataclass(frozen=True)
class Gain:
    """How many times faster one model is than another under one pair of workloads.

    Attributes:
        model, against: the two.
        workload: of the one.
        other_workload: of the other: the same, or another batch where memory was the limit.
        per_instance: rate -> ratio of the medians, for the rates that both have.
        per_byte: the same, each divided by the memory that its model took at most: what counts
            where the memory saved is used for something else. Empty where memory is not known.
        spread: rate -> the smallest and largest ratio of rounds that were measured in one turn.
    """

    model: str
    against: str
    workload: Workload
    other_workload: Workload
    per_instance: dict[str, float]
    per_byte: dict[str, float]
    spread: dict[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "against": self.against,
            "random_input_len": self.workload.input_len,
            "random_output_len": self.workload.output_len,
            "max_concurrency": self.workload.batch_size,
            "against_max_concurrency": self.other_workload.batch_size,
            "request_rate": self.workload.request_rate if self.workload.paced else "inf",
            "per_instance": self.per_instance,
            "per_byte": self.per_byte,
            "spread": {name: list(ends) for name, ends in self.spread.items()},
        }


def gain(one: Point, other: Point) -> Gain | None:
    """What `one` gains over `other`; None where either ran out of memory."""
    if one.ended or other.ended:
        return None
    per_instance, spread = {}, {}
    for name in RATES:
        mine, theirs = one.rate(name), other.rate(name)
        if mine is None or theirs is None:
            continue
        per_instance[name] = mine / theirs
        pairs = zip(one.rounds, other.rounds, strict=False)
        found = [(getattr(a, name), getattr(b, name)) for a, b in pairs]
        ratios = [a / b for a, b in found if a is not None and b is not None]
        if ratios:
            spread[name] = (min(ratios), max(ratios))
    per_byte = {}
    if one.peak_memory and other.peak_memory:
        less = other.peak_memory / one.peak_memory
        per_byte = {name: ratio * less for name, ratio in per_instance.items()}
    return Gain(
        one.model, other.model, one.workload, other.workload, per_instance, per_byte, spread
    )


@dataclass(frozen=True)
class Throughput:
    """What was measured. The results answer different questions and are kept apart.

    Attributes:
        models: the names, the one of interest first.
        points: at fixed batches or request rates, the same for both models.
        gains: of the first model over the second, at the same points.
        memory_budget: bytes that each model was given; None = that was not asked for.
        within_memory: each model at the largest batch that fits that budget.
        gains_within_memory: of the first model over the second, each at its own batch.
        largest_batches: for each model and lengths, how many requests fit the budget, found by
            measuring, and what weights and cache alone would allow.
        roofline: what the machine allows at each point at a fixed batch, and the part reached.
        settings: what the numbers depend on, and for each model what its engine says.
    """

    models: tuple[str, ...]
    points: tuple[Point, ...]
    gains: tuple[Gain, ...]
    memory_budget: int | None
    within_memory: tuple[Point, ...]
    gains_within_memory: tuple[Gain, ...]
    largest_batches: tuple[dict[str, Any], ...]
    roofline: dict[str, Any]
    settings: dict[str, Any]

    def at(self, *, paced: bool) -> tuple[tuple[Point, ...], tuple[Gain, ...]]:
        """Points and gains at request rates, or else at fixed batches."""
        return (
            tuple(each for each in self.points if each.workload.paced is paced),
            tuple(each for each in self.gains if each.workload.paced is paced),
        )

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "models": list(self.models),
            "fixed_batch": _to_json(*self.at(paced=False)),
        }
        if any(self.at(paced=True)):
            found["request_rates"] = _to_json(*self.at(paced=True))
        if self.memory_budget is not None:
            found["within_memory"] = {
                "memory_budget_bytes": self.memory_budget,
                "largest_batches": list(self.largest_batches),
                **_to_json(self.within_memory, self.gains_within_memory),
            }
        return {**found, "roofline": self.roofline, "settings": self.settings}


def _to_json(points: Sequence[Point], gains: Sequence[Gain]) -> dict[str, Any]:
    return {
        "results": [each.to_json() for each in points],
        "gains": [each.to_json() for each in gains],
    }
