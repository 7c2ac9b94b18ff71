"""Measurements beside what the roofline of the machine allows, and what it predicts.

A bound is no prediction: a pass has to be begun, operation by operation, and kernels do not reach
the machine's peaks. Two numbers for each phase stand for that, measured on the last model (of two
the unpruned one) where the bound b of a pass is the shortest and where it is the longest, in which
the pass took t1 and t2 seconds:

    slowdown  = max(1, (t2 - t1) / (b2 - b1))
    overhead  = max(0, t1 - slowdown b1)
    predicted = overhead + slowdown bound     seconds of any other pass, of the pruned model, too

A pass is a decoding step or the prefill of all prompts together.
"""

import os
from collections.abc import Sequence
from typing import Any

from easyep.errors import EasyEPError
from easyep.evaluation.roofline.machine import Machine
from easyep.evaluation.roofline.predict import point, read_config
from easyep.evaluation.roofline.probe import probe
from easyep.evaluation.roofline.reading import read_decoder
from easyep.evaluation.roofline.step import largest_batch
from easyep.evaluation.roofline.traffic import uniform
from easyep.evaluation.throughput.results import Point

PHASES = ("prefill", "decode")


def bounds(
    points: Sequence[Point], described: dict[str, dict[str, Any]], device: str
) -> dict[str, Any]:
    """What the machine, probed now, would allow for each measured point.

    Every expert is taken to be used equally often, and the cache to hold keys and values, as in
    transformers. Only engines that run in this process can be told of.

    Args:
        points: measured.
        described: model -> what its engine said of it.
        device: where it ran.

    Returns:
        For JSON: the machine, and for each point the bounds, what part of them was reached, and
        what is predicted; or why there are none.
    """
    dtypes = {name: str(said.get("dtype")) for name, said in described.items()}
    if not all("transformers" in said for said in described.values()):
        return {"left_out": "the engine does not run in this process"}
    try:
        here = {dtype: probe(device, dtype) for dtype in set(dtypes.values())}
        found = [_bound(each, here[dtypes[each.model]], dtypes[each.model]) for each in points]
    except EasyEPError as error:
        return {"left_out": str(error)}
    told: dict[str, Any] = {"machines": {dtype: each.to_json() for dtype, each in here.items()}}
    pairs = [(each, bound) for each, bound in zip(points, found, strict=True) if bound is not None]
    told["calibration"] = {phase: _calibration(pairs, phase) for phase in PHASES}
    for one, bound in pairs:
        bound["predicted"] = {
            f"{phase}_throughput": _predicted(one, bound, phase, told["calibration"][phase])
            for phase in PHASES
        }
    return {**told, "points": [bound for _, bound in pairs]}


def _tokens(one: Point, phase: str) -> int:
    """What a pass computes: every prompt, or a token of each request."""
    work = one.workload
    return work.batch_size * (work.input_len if phase == "prefill" else 1)


def _calibration(
    pairs: Sequence[tuple[Point, dict[str, Any]]], phase: str
) -> dict[str, Any] | None:
    """What a pass takes beyond its bound, and where that was measured; None where it was not."""
    name = f"{phase}_throughput"
    known = [
        (tokens / bound[name], tokens / rate, one)
        for one, bound in pairs
        if one.model == pairs[-1][0].model and (rate := one.rate(name)) is not None
        for tokens in [_tokens(one, phase)]
    ]
    if not known:
        return None
    known.sort(key=lambda each: each[0])
    (first, fast, one), (last, slow, other) = known[0], known[-1]
    slowdown = max(1.0, (slow - fast) / (last - first)) if last > first else 1.0
    return {
        "overhead_seconds": max(0.0, fast - slowdown * first),
        "slowdown": slowdown,
        "model": one.model,
        "measured_at": [_place(one), _place(other)],
    }


def _place(one: Point) -> dict[str, int]:
    return {
        "random_input_len": one.workload.input_len,
        "random_output_len": one.workload.output_len,
        "max_concurrency": one.workload.batch_size,
    }


def _predicted(
    one: Point, bound: dict[str, Any], phase: str, known: dict[str, Any] | None
) -> dict[str, float | None]:
    """A rate, and how far it is from the measured one; no error where it was calibrated."""
    if known is None:
        return {"value": None, "error": None}
    name, tokens = f"{phase}_throughput", _tokens(one, phase)
    value = tokens / (known["overhead_seconds"] + known["slowdown"] * tokens / bound[name])
    measured = one.rate(name)
    taken = one.model == known["model"] and _place(one) in known["measured_at"]
    error = None if measured is None or taken else value / measured - 1
    return {"value": value, "error": error}


def _bound(measured: Point, machine: Machine, dtype: str) -> dict[str, Any] | None:
    if measured.ended:
        return None
    decoder = read_decoder(
        read_config(measured.model)[1], name=measured.model, dtype=dtype, latent_cache=False
    )
    work = measured.workload
    traffic = uniform(decoder.moe_layers, decoder.experts, decoder.top_k)
    bound = point(
        decoder, machine, traffic, work.batch_size, work.input_len, work.output_len
    ).to_json()
    reached = {}
    for name in ("prefill_throughput", "decode_throughput"):
        value = measured.rate(name)
        reached[name] = None if value is None else value / bound[name]
    return {"model": measured.model, **bound, "reached": reached}


def predicted_batch(
    model: str | os.PathLike[str], said: dict[str, Any], budget: int, tokens: int
) -> int | None:
    """The largest batch by the roofline's account of weights and cache; None where it has none.

    Activations and what an engine holds besides are left out.
    """
    try:
        latent = "transformers" not in said
        decoder = read_decoder(
            read_config(model)[1], dtype=str(said.get("dtype", "auto")), latent_cache=latent
        )
    except EasyEPError:
        return None
    return largest_batch(decoder, budget, tokens, utilisation=1.0)
