"""`easyep.predict`: what pruning will give on a machine, from `config.json` alone."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyep import choices, models
from easyep.architectures.router import budget as wanted
from easyep.architectures.spec import find_architecture
from easyep.artifacts import Observations
from easyep.artifacts.observations import Observed
from easyep.checkpoint.files import CONFIG, parse_object, read_text
from easyep.errors import EvaluationError, ModelNotFoundError
from easyep.evaluation.lengths import LENGTHS, Lengths, pairs
from easyep.evaluation.roofline import machine as machines
from easyep.evaluation.roofline.decoder import Decoder
from easyep.evaluation.roofline.machine import Machine
from easyep.evaluation.roofline.probe import probe
from easyep.evaluation.roofline.reading import read_decoder
from easyep.evaluation.roofline.step import Step, decode, largest_batch, prefill
from easyep.evaluation.roofline.traffic import Traffic, recorded, uniform

PathLike = str | os.PathLike[str]

BATCHES = (1, 4, 16, 64, 256)


@dataclass(frozen=True)
class PredictedPoint:
    """A bound on throughput, for one number of experts, lengths and batch.

    Attributes:
        experts: per layer.
        input_len, output_len: tokens.
        batch: sequences at a time.
        prefill, decode: one pass over all prompts, and one step in the middle of the answers.
    """

    experts: int
    input_len: int
    output_len: int
    batch: int
    prefill: Step
    decode: Step

    @property
    def prefill_throughput(self) -> float:
        """Prompt tokens per second at most."""
        return self.batch * self.input_len / self.prefill.seconds

    @property
    def decode_throughput(self) -> float:
        """Output tokens per second at most."""
        return self.batch / self.decode.seconds

    @property
    def output_throughput(self) -> float:
        """Output tokens per second of the whole, one batch after the other, at most."""
        seconds = self.prefill.seconds + self.output_len * self.decode.seconds
        return self.batch * self.output_len / seconds

    def to_json(self) -> dict[str, Any]:
        return {
            "experts": self.experts,
            "random_input_len": self.input_len,
            "random_output_len": self.output_len,
            "max_concurrency": self.batch,
            **{
                f"{name}_{what}": getattr(self, f"{name}_throughput")
                if what == "throughput"
                else getattr(self, name).bound
                for name in ("prefill", "decode")
                for what in ("throughput", "bound")
            },
            "output_throughput": self.output_throughput,
            "decode_bytes": {
                "experts": self.decode.expert_bytes,
                "weights": self.decode.dense_bytes,
                "cache": self.decode.cache_bytes,
            },
            "decode_flops": self.decode.flops,
        }


@dataclass(frozen=True)
class Prediction:
    """Bounds before and after pruning.

    Attributes:
        model: its name.
        machine: where.
        memory_budget: bytes that weights and caches of one instance may take, and what else an
            engine needs.
        decoders: experts per layer -> the model with so many; the unpruned one first.
        recorded: whether routing that was observed says how many experts a batch touches;
            otherwise every expert is taken to be used equally often, which is the most.
        fixed_batch: the same batches for all.
        within_memory: each at the largest batch whose cache fits; without those that do not fit.
    """

    model: str
    machine: Machine
    memory_budget: float
    decoders: dict[int, Decoder]
    recorded: bool
    fixed_batch: tuple[PredictedPoint, ...]
    within_memory: tuple[PredictedPoint, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "machine": self.machine.to_json(),
            "memory_budget_bytes": self.memory_budget,
            "expert_traffic": "recorded" if self.recorded else "uniform",
            "weights_bytes": {str(n): each.stored_bytes for n, each in self.decoders.items()},
            "cache_bytes_per_token": next(iter(self.decoders.values())).attention.cached(1),
            "fixed_batch": [point.to_json() for point in self.fixed_batch],
            "within_memory": [point.to_json() for point in self.within_memory],
        }


def predict(
    model: PathLike,
    machine: str = "probe",
    *,
    keep: Sequence[float] = (0.5,),
    lengths: Lengths = LENGTHS,
    batch_sizes: Sequence[int] = BATCHES,
    memory_budget: float | str | None = None,
    observations: Observed | Sequence[Observed] = (),
    dtype: str = "auto",
    device: str = "auto",
    cache_copies: float = 1.0,
) -> Prediction:
    """Bound prefill and decode throughput before and after pruning, by the roofline.

    Args:
        model: a directory, a short name, a repository id, or the path of a `config.json`.
        machine: a name of the table, ``"h200x8"``, or ``"probe"`` for the one that this runs on.
        keep: fractions of the experts, or counts; as in `select`, a count also where only a router
            without groups works with it.
        lengths: (input, output) tokens.
        batch_sizes: sequences at a time.
        memory_budget: bytes, or a text such as ``80GB``; by default all that the machine has.
        observations: calibration runs, or the directories that they were saved in, for how many
            experts a batch touches.
        dtype: what the model is loaded as where it is not quantised.
        device: of the probe.
        cache_copies: how often each sequence's cache is held, see `largest_batch`.

    Raises:
        EasyEPError: the model or machine is unknown, or not one that this can be told of.
    """
    seen = Observations.all_of(observations)
    machine = choices.text("machine", machine)
    given_budget = choices.optional(choices.size)("memory_budget", memory_budget)
    if choices.number("cache_copies", cache_copies) <= 0:
        raise EvaluationError(f"cache_copies must be above 0, not {cache_copies}")
    chosen_lengths = pairs(lengths)
    batch_sizes = choices.several(choices.count)("batch_sizes", batch_sizes)
    name, config = read_config(model)
    decoder = read_decoder(config, name=name, dtype=dtype)
    here = machine == "probe"
    place = probe(device, decoder.compute_dtype) if here else machines.machine(machine)
    router = find_architecture(config).router(config)
    traffic = uniform(decoder.moe_layers, decoder.experts, decoder.top_k)
    if seen:
        traffic = recorded(seen)
        layers, experts = traffic.shares.shape
        if (layers, experts) != (decoder.moe_layers, decoder.experts):
            raise EvaluationError(
                f"the observations are of a model with {layers} layers of {experts} experts, and "
                f"{name} has {decoder.moe_layers} of {decoder.experts}"
            )
    counts = {decoder.experts: None}
    for each in choices.several(wanted)("keep", keep):
        counts[router.count(each, "flatten" if isinstance(each, int) else "balanced")] = None
    budget = place.memory if given_budget is None else float(given_budget)
    decoders = {count: decoder.pruned(count) for count in counts}
    fixed, within = [], []
    for pair in chosen_lengths:
        for count, left in decoders.items():
            routes = traffic.pruned(count)
            points = [point(left, place, routes, batch, *pair) for batch in batch_sizes]
            fixed += [one for one in points if _fits(left, budget, one, cache_copies)]
            most = largest_batch(left, budget, sum(pair), copies=cache_copies)
            if most:
                within.append(point(left, place, routes, most, *pair))
    return Prediction(name, place, budget, decoders, traffic.recorded, tuple(fixed), tuple(within))


def point(
    decoder: Decoder,
    machine: Machine,
    traffic: Traffic,
    batch: int,
    input_len: int,
    output_len: int,
) -> PredictedPoint:
    """The bounds at one batch; `traffic` is that of as many experts as `decoder` has."""
    return PredictedPoint(
        decoder.experts,
        input_len,
        output_len,
        batch,
        prefill(decoder, machine, traffic, batch, input_len),
        decode(decoder, machine, traffic, batch, input_len, output_len),
    )


def read_config(model: PathLike) -> tuple[str, dict[str, Any]]:
    """A model's name and configuration; nothing else of it needs to be there.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: it cannot be read.
        EasyEPError: as `models.resolve`, for a name.
    """
    name = choices.text("model", model)
    path = Path(name)
    if path.suffix == ".json":
        if not path.is_file():
            raise ModelNotFoundError(f"the configuration {name} does not exist")
        file = Path(os.path.realpath(path))  # a link is followed, it was named
        return name, parse_object(read_text(file.parent, file.name), path.name)
    folder = models.resolve(name).path
    return name, parse_object(read_text(folder, CONFIG), CONFIG)


def _fits(decoder: Decoder, budget: float, one: PredictedPoint, copies: float) -> bool:
    tokens = one.input_len + one.output_len
    return one.batch <= largest_batch(decoder, budget, tokens, copies=copies)
