"""`easyep.bench`: how fast a model is, alone or beside another."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

from easyep import choices, loading, models
from easyep.architectures.spec import stated_size
from easyep.checkpoint.files import Checkpoint, parse_object, read_text
from easyep.errors import CheckpointError, EasyEPError, EvaluationError
from easyep.evaluation.engines import EngineSettings, engine
from easyep.evaluation.engines.settings import check_taken
from easyep.evaluation.lengths import Lengths, pairs
from easyep.evaluation.throughput.beside import bounds, predicted_batch
from easyep.evaluation.throughput.results import Gain, Point, Throughput, gain
from easyep.evaluation.throughput.sweep import Bench, Turn
from easyep.evaluation.throughput.workload import (
    NUM_PROMPTS,
    Workload,
    default_batch_sizes,
    default_lengths,
)
from easyep.placing import usable_device
from easyep.processor import processor
from easyep.progress import SILENT, Progress

PathLike = str | os.PathLike[str]

# Looking for the largest batch ends here, if memory does not end it.
LARGEST_IN_BUDGET = 4096

# Without any of these transformers makes up a tokenizer that knows nothing.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")


def bench(
    model: PathLike,
    against: PathLike | None = None,
    *,
    backend: str = "transformers",
    lengths: Lengths | None = None,
    batch_sizes: int | Sequence[int] | None = None,
    request_rates: float | Sequence[float] = (inf,),
    num_prompts: int = NUM_PROMPTS,
    num_iters: int = 3,
    num_iters_warmup: int = 1,
    memory_budget: int | str | None = None,
    one_at_a_time: bool = False,
    seed: int = 0,
    settings: EngineSettings | None = None,
    against_settings: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> Throughput:
    """Measure prefill and decode throughput and latencies, of two models in turns.

    Args:
        model, against: directories, short names, or repository ids.
        backend: a name of `easyep list backends`.
        lengths: (input, output) tokens; by default 1K+1K, 1K+4K and 4K+1K, shorter ones without
            an accelerator and where the model has fewer positions.
        batch_sizes: requests at a time; by default 1, 2, 4, ... until memory ends.
        request_rates: requests a second that a server gets, arriving at random (a Poisson
            process); infinite = as many at once as `batch_sizes` says.
        num_prompts: requests of a round with a finite rate; there `batch_sizes` is how many of
            them may be under way at a time, by default all.
        num_iters, num_iters_warmup: rounds of each point that count, and rounds before.
        memory_budget: bytes, or a text such as ``80GB``; each model is also measured at the
            largest batch that fits.
        one_at_a_time: hold one model in memory, not both.
        seed: of the prompts.
        settings: how the engine runs both models.
        against_settings: entries of `settings` that differ for the second: its server's address.

    Raises:
        EasyEPError: a model cannot be loaded, or an engine fails.
    """
    choices.count("num_iters", num_iters)
    choices.seed("num_iters_warmup", num_iters_warmup)
    budget = choices.optional(choices.size)("memory_budget", memory_budget)
    if batch_sizes is not None:
        batch_sizes = choices.several(choices.count)("batch_sizes", batch_sizes)
    rates = choices.several(_rate)("request_rates", request_rates) or (inf,)
    settings = settings or EngineSettings()
    if not isinstance(settings, EngineSettings):
        raise EvaluationError(f"settings must be EngineSettings, not {type(settings).__name__}")
    chosen = engine(backend)
    names = [choices.text("model", model)]
    if against is not None:
        names.append(choices.text("against", against))
    if len(set(names)) < len(names):
        raise EvaluationError(f"{model} cannot be measured against itself")
    settings = replace(settings, memory=budget)
    choices.known("engine setting", against_settings or {}, EngineSettings, ())
    each_settings = [settings, replace(settings, **(against_settings or {}))]
    for own in each_settings:
        check_taken(own, backend, getattr(chosen, "takes", None))
    found = [models.resolve(name).path for name in names]
    longest = [_positions(path) for path in found]
    limit = min((each for each in longest if each is not None), default=None)
    chosen_lengths = pairs(lengths or default_lengths(_has_accelerator(settings), limit))
    _check_lengths(chosen_lengths, limit)
    workloads = list(_workloads(chosen_lengths, batch_sizes, rates, num_prompts))
    needed: dict[str, Any] = {
        "max_model_len": max(map(sum, chosen_lengths)),
        "max_batch_size": LARGEST_IN_BUDGET
        if budget is not None
        else max(each.batch_size for each in workloads),
    }
    runner = Bench(
        {
            name: partial(chosen.open, str(path), replace(own, **needed))
            for name, path, own in zip(names, found, each_settings, strict=False)
        },
        _vocabulary(found[-1], settings.trust_remote_code),
        num_iters,
        num_iters_warmup,
        seed,
        one_at_a_time,
        progress,
    )
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    try:
        points = runner.measure([[(name, workload) for name in names] for workload in workloads])
        within: list[Point] = []
        largest: list[dict[str, Any]] = []
        if budget is not None:
            largest = _largest(runner, names, chosen_lengths, budget)
            within = runner.measure(_within(largest, chosen_lengths))
    finally:
        runner.close()
    return Throughput(
        tuple(names),
        tuple(points),
        tuple(_gains(points, names)),
        budget,
        tuple(within),
        tuple(_gains(within, names)),
        tuple(largest),
        bounds(points, runner.described, settings.device),
        {
            "date": started,
            "models": {name: _identity(path) for name, path in zip(names, found, strict=True)},
            "backend": backend,
            "processor": f"{processor()}, {os.cpu_count()} cores",
            "load_average": os.getloadavg()[0],
            "num_iters": num_iters,
            "num_iters_warmup": num_iters_warmup,
            "seed": seed,
            "one_at_a_time": one_at_a_time,
            "engines": runner.described,
        },
    )


def _identity(path: Path) -> dict[str, str] | None:
    """What tells a model from others; None where only a server has its weights."""
    try:
        return Checkpoint.open(path).identity("").to_json()
    except EasyEPError:
        return None


def _rate(name: str, value: Any) -> float:
    if value == inf:
        return inf
    if choices.number(name, value) <= 0:
        raise EvaluationError(f"a request rate is above 0, not {value}")
    return float(value)


def _workloads(
    lengths: Sequence[tuple[int, int]],
    batch_sizes: Sequence[int] | None,
    request_rates: Sequence[float],
    num_prompts: int,
) -> Iterator[Workload]:
    """Every point at a fixed batch, smaller batches and rates first."""
    choices.count("num_prompts", num_prompts)
    for pair in lengths:
        for rate in sorted(set(request_rates)):
            if rate == inf:
                batches = sorted(set(batch_sizes or default_batch_sizes()))
                yield from (Workload(*pair, batch) for batch in batches)
            else:
                most = sorted({min(each, num_prompts) for each in batch_sizes or [num_prompts]})
                yield from (Workload(*pair, each, rate, num_prompts) for each in most)


def _largest(
    runner: Bench, names: Sequence[str], lengths: Sequence[tuple[int, int]], budget: int
) -> list[dict[str, Any]]:
    """For each model and lengths the largest batch that fits, measured and predicted."""
    found = []
    for name in names:
        for pair in lengths:
            batch = runner.largest_batch(name, pair, budget, LARGEST_IN_BUDGET)
            if not batch:
                runner.progress.say(f"{name} does not fit the memory budget at {pair[0]}+{pair[1]}")
            predicted = predicted_batch(name, runner.described[name], budget, sum(pair))
            found.append(
                {"model": name, "lengths": pair, "measured": batch, "predicted": predicted}
            )
    return found


def _within(
    largest: Sequence[dict[str, Any]], lengths: Sequence[tuple[int, int]]
) -> list[list[Turn]]:
    """For each length the models at their largest batches, without those that do not fit."""
    return [
        [
            (each["model"], Workload(*pair, each["measured"]))
            for each in largest
            if each["lengths"] == pair and each["measured"]
        ]
        for pair in lengths
    ]


def _gains(points: Sequence[Point], names: Sequence[str]) -> list[Gain]:
    """Neighbours of one group, the first model over the second."""
    if len(names) < 2:
        return []
    found = []
    for one, other in pairwise(points):
        lengths = [(w.input_len, w.output_len) for w in (one.workload, other.workload)]
        if (one.model, other.model) == tuple(names) and lengths[0] == lengths[1]:
            found.append(gain(one, other))
    return [each for each in found if each is not None]


def _check_lengths(lengths: Sequence[tuple[int, int]], limit: int | None) -> None:
    for pair in lengths:
        if limit is not None and sum(pair) > limit:
            raise EvaluationError(
                f"{pair[0]}+{pair[1]} tokens are more than the model's {limit} positions"
            )


def _positions(path: Path) -> int | None:
    """The positions that the model's configuration states."""
    config = parse_object(read_text(path, "config.json"), "config.json")
    return stated_size(config, "max_position_embeddings")


def _vocabulary(path: Path, trust_remote_code: bool) -> list[int]:
    """Token ids that both models know: all but the special ones, such as an end of sequence."""
    config = parse_object(read_text(path, "config.json"), "config.json")
    size = stated_size(config, "vocab_size")
    special: set[int] = set()
    if any((path / name).is_file() for name in _TOKENIZERS):
        tokenizer = loading.load_tokenizer(path, trust_remote_code=trust_remote_code)
        special = set(tokenizer.all_special_ids)
        size = min(size or len(tokenizer), len(tokenizer))
    if not size:
        raise CheckpointError(f"{path} states no vocab_size, and has no tokenizer")
    return [token for token in range(size) if token not in special]


def _has_accelerator(settings: EngineSettings) -> bool:
    if settings.base_url is not None:
        return False  # unknown: start small
    return bool(usable_device(settings.device).type != "cpu")
