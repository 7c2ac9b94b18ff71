"""Measurements beside what the roofline of the machine allows."""

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
        For JSON: the machine, and for each point the bounds and what part of them was reached; or
        why there are none.
    """
    dtypes = {name: str(said.get("dtype")) for name, said in described.items()}
    if not all("transformers" in said for said in described.values()):
        return {"left_out": "the engine does not run in this process"}
    try:
        here = {dtype: probe(device, dtype) for dtype in set(dtypes.values())}
        found = [_bound(each, here[dtypes[each.model]], dtypes[each.model]) for each in points]
    except EasyEPError as error:
        return {"left_out": str(error)}
    return {
        "machines": {dtype: each.to_json() for dtype, each in here.items()},
        "points": [each for each in found if each is not None],
    }


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
