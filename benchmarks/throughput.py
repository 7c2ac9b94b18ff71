"""Full and half of the experts beside each other, and beside what the roofline says of them.

    python benchmarks/throughput.py --size small --output benchmarks/results/throughput.json
    python benchmarks/throughput.py --size large --device cuda --dtype bfloat16 --output OUT

A Qwen3-MoE with random weights is written twice, with all experts and with half of them, and both
go through `easyep.bench` in turns, engine `transformers`. "demo" is the trained model that comes
with easyep, and half of it for mathematics. The machine's bandwidth and peak are probed in the same
run.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

import easyep
from easyep.evaluation.engines import EngineSettings
from easyep.progress import SILENT

COMMON = {"num_experts_per_tok": 8, "num_key_value_heads": 4, "norm_topk_prob": True}
SIZES: dict[str, dict[str, Any]] = {
    # 38 million weights, 33 million of them in experts
    "small": {
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_experts": 64,
        "head_dim": 32,
        "moe_intermediate_size": 160,
        "num_attention_heads": 8,
        "vocab_size": 4096,
    },
    # 0.6 billion weights: larger than any cache
    "medium": {
        "hidden_size": 1024,
        "num_hidden_layers": 6,
        "num_experts": 64,
        "head_dim": 64,
        "moe_intermediate_size": 448,
        "num_attention_heads": 16,
        "vocab_size": 8192,
    },
    # 9.8 billion weights, 9.7 billion of them in experts
    "large": {
        "hidden_size": 2048,
        "num_hidden_layers": 12,
        "num_experts": 128,
        "head_dim": 128,
        "moe_intermediate_size": 1024,
        "num_attention_heads": 16,
        "vocab_size": 32768,
    },
}


def write(size: str, keep: float, path: Path, options: argparse.Namespace) -> str:
    """A random model with that part of its experts, or the demo model."""
    if size == "demo" and keep == 1:
        return "demo"
    if size == "demo":
        asked = {"domain": "math", "keep": keep, "dtype": "float32", "batch_size": 8}
        return str(easyep.prune("demo", output=path, progress=SILENT, **asked).path)
    settings = {**COMMON, **SIZES[size]}
    settings["num_experts"] = int(settings["num_experts"] * keep)
    config = transformers.AutoConfig.for_model(
        "qwen3_moe", max_position_embeddings=8192, intermediate_size=512, **settings
    )
    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype)
    torch.set_default_dtype(dtype)
    with torch.device(options.device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(path)
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["demo", *SIZES], default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, action="append", help="repeatable")
    parser.add_argument("--input-len", type=int, default=64)
    parser.add_argument("--output-len", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backend", default="transformers")
    parser.add_argument("--memory-budget", type=float, help="GB; the largest batches, too")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        full = write(options.size, 1, Path(folder) / "full", options)
        half = write(options.size, 0.5, Path(folder) / "half", options)
        found = easyep.bench(
            half,
            full,
            backend=options.backend,
            lengths=[(options.input_len, options.output_len)],
            batch_sizes=options.batch or [1, 4, 16, 64],
            num_iters=options.rounds,
            memory_budget=options.memory_budget and int(options.memory_budget * 1e9),
            settings=EngineSettings(dtype=options.dtype, device=options.device),
        ).to_json()
    names = {half: "half", full: "full"}
    report = {
        "benchmark": "throughput",
        "size": options.size,
        "lengths": [options.input_len, options.output_len],
        "settings": {**found["settings"], "engines": list(found["settings"]["engines"].values())},
        "machines": found["roofline"].get("machines"),
        "calibration": {
            phase: {**each, "model": names[each["model"]]}
            for phase, each in found["roofline"]["calibration"].items()
        },
        "rows": rows(found, names),
    }
    if options.memory_budget:
        within = found["within_memory"]
        for each in [*within["results"], *within["gains"], *within["largest_batches"]]:
            each.update({key: names[each[key]] for key in ("model", "against") if key in each})
        report["within_memory"] = within
        print(json.dumps({"largest_batches": within["largest_batches"], "gains": within["gains"]}))
    for row in report["rows"]:
        print(json.dumps(row))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=2) + "\n")


def rows(found: dict[str, Any], names: dict[str, str]) -> list[dict[str, Any]]:
    """For each batch and phase both models' rates, bounds, and gains measured and predicted."""
    bounds = {
        (each["model"], each["max_concurrency"]): each for each in found["roofline"]["points"]
    }
    points = {
        (names[each["model"]], each["max_concurrency"]): each
        for each in found["fixed_batch"]["results"]
        if not each.get("ended")
    }
    paths = {name: path for path, name in names.items()}
    made = []
    for gain in found["fixed_batch"]["gains"]:
        batch = gain["max_concurrency"]
        for phase in ("prefill", "decode"):
            key = f"{phase}_throughput"
            if key not in gain["per_instance"]:
                continue
            rates = {name: points[name, batch][key] for name in paths}
            bound = {name: bounds[path, batch] for name, path in paths.items()}
            expected = {name: each["predicted"][key] for name, each in bound.items()}
            predicted = expected["half"]["value"] / expected["full"]["value"]
            measured = gain["per_instance"][key]
            made.append(
                {
                    "batch": batch,
                    "phase": phase,
                    **{f"{name}_measured": rates[name] for name in paths},
                    **{f"{name}_bound": bound[name][key] for name in paths},
                    **{f"{name}_reached": rates[name] / bound[name][key] for name in paths},
                    **{f"{name}_predicted": expected[name]["value"] for name in paths},
                    **{f"{name}_error": expected[name]["error"] for name in paths},
                    "bound": bound["full"][f"{phase}_bound"],
                    "gain_measured": measured,
                    "gain_spread": gain["spread"][key],
                    "gain_of_bounds": bound["half"][key] / bound["full"][key],
                    "gain_predicted": predicted,
                    "gain_error": predicted / measured - 1,
                    "peak_memory": {
                        name: points[name, batch]["peak_memory_bytes"] for name in paths
                    },
                }
            )
    return made


if __name__ == "__main__":
    main()
