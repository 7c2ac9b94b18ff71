"""A model and half of its experts on several engines, all of them in turns in one run.

    python benchmarks/two_engines.py FULL HALF --engine transformers --engine vllm --output OUT
    python benchmarks/two_engines.py FULL HALF --engine transformers --server llama.cpp=URL,URL

Every engine gets the same prompts, lengths and batches; in each round every engine answers with
every model, and who is first changes. FULL and HALF are directories. A server serves the two
already, under the two addresses. What an engine needs to be told is written in `ARGUMENTS`.
"""

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from easyep.evaluation.engines import EngineSettings, engine
from easyep.evaluation.throughput.bench import processor
from easyep.evaluation.throughput.results import RATES, Point, gain
from easyep.evaluation.throughput.sweep import Bench
from easyep.evaluation.throughput.workload import Workload

# vLLM on a CPU computes plain rotary embeddings of DeepSeek-V3 wrongly, YaRN rightly; with a factor
# of one the two are the same.
PLAIN = {"rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 2048}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "transformers": {},
    "vllm": {"enforce_eager": True},
}


def arguments(name: str, model: str) -> dict[str, Any]:
    """What an engine is told beside what all are told."""
    config = json.loads((Path(model) / "config.json").read_text())
    made = dict(ARGUMENTS.get(name, {}))
    if name == "vllm" and config["model_type"] == "deepseek_v3":
        theta = config["rope_parameters"]["rope_theta"]
        made["hf_overrides"] = {"rope_parameters": {**PLAIN, "rope_theta": theta}}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("full")
    parser.add_argument("half")
    parser.add_argument("--engine", action="append", default=[], help="a backend; repeatable")
    parser.add_argument("--server", action="append", default=[], help="NAME=URL,URL; repeatable")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, action="append", help="repeatable")
    parser.add_argument("--input-len", type=int, default=64)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--forbidden", type=int, help="the end of sequence, for servers")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batches = options.batch or [1, 4, 16]
    common: dict[str, Any] = {
        "dtype": options.dtype,
        "device": "cpu",
        "max_model_len": options.input_len + options.output_len,
        "max_batch_size": max(batches),
    }
    models = {"half": options.half, "full": options.full}
    opened: dict[str, Any] = {}
    for name in options.engine:
        for part, path in models.items():
            settings = EngineSettings(**common, extra_args=arguments(name, path))
            opened[f"{name}, {part}"] = partial(engine(name).open, path, settings)
    body = {} if options.forbidden is None else {"logit_bias": {str(options.forbidden): -100}}
    for server in options.server:
        name, _, urls = server.partition("=")
        for part, url in zip(("full", "half"), urls.split(","), strict=True):
            settings = EngineSettings(**common, base_url=url, extra_body=body)
            opened[f"{name}, {part}"] = partial(engine("openai").open, models[part], settings)
    bench = Bench(opened, range(3, 512), repeats=options.rounds, warmups=1)
    lengths = options.input_len, options.output_len
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    points = bench.measure(
        [[(name, Workload(*lengths, batch)) for name in opened] for batch in batches]
    )
    found = {(each.model, each.workload.batch_size): each for each in points}
    engines = list(dict.fromkeys(name.rpartition(", ")[0] for name in opened))
    rows = [row(found, name, batch) for batch in batches for name in engines]
    report = {
        "benchmark": "two_engines",
        "date": started,
        "processor": processor(),
        "load_average": os.getloadavg()[0],
        "threads": options.threads,
        "lengths": lengths,
        "rounds": options.rounds,
        "engines": {
            name: {key: value for key, value in said.items() if key != "base_url"}
            for name, said in bench.described.items()
        },
        "rows": rows,
        "results": [point.to_json() for point in points],
    }
    bench.close()
    for each in rows:
        print(json.dumps(each))
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


def row(found: dict[tuple[str, int], Point], name: str, batch: int) -> dict[str, Any]:
    """One engine at one batch: both models' rates, and the gain with its spread over rounds."""
    full, half = found[f"{name}, full", batch], found[f"{name}, half", batch]
    won = gain(half, full)
    assert won is not None, "memory ended"
    return {
        "engine": name,
        "batch": batch,
        "full": {rate: full.rate(rate) for rate in RATES},
        "half": {rate: half.rate(rate) for rate in RATES},
        "gain": won.per_instance,
        "gain_spread": won.spread,
    }


if __name__ == "__main__":
    main()
