"""How time and memory fall with 1, 2 and 3 processes on one machine.

    python benchmarks/distributed.py --processes 1 2 3 --output benchmarks/results/distributed.json
    python benchmarks/distributed.py --device cuda --processes 1 2 --experts 32 --layers 16

Makes a random Qwen3-MoE checkpoint and observes the same demonstrations with `--runner memory`
(every process has the model) and `--runner deepspeed` (divided over them), under torchrun. Memory
is the peak of a process's resident set, the libraries' own included, and on a GPU also the peak of
what torch has allocated; time is that of `calibrate`, loading included. Processes that share cores
do not show how time falls with more machines.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")

ROOT = Path(__file__).resolve().parents[1]


def write(folder: Path, arguments: argparse.Namespace) -> int:
    """Write the checkpoint and the demonstrations; the checkpoint's bytes."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, Qwen3MoeConfig

    config = Qwen3MoeConfig(
        hidden_size=1024,
        intermediate_size=2048,
        moe_intermediate_size=512,
        num_hidden_layers=arguments.layers,
        num_experts=arguments.experts,
        num_experts_per_tok=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=128,
        vocab_size=4096,
        decoder_sparse_step=1,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder / "model")
    draw = np.random.default_rng(0)
    with open(folder / "demos.jsonl", "w") as out:
        for _ in range(arguments.demos):
            ids = draw.integers(0, 4096, arguments.tokens).tolist()
            out.write(json.dumps({"input_ids": ids, "response_start": 0}) + "\n")
    return sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors"))


def observe(arguments: argparse.Namespace) -> None:
    """In each process: observe, and write what it took."""
    import torch

    from easyep.calibration import calibrate
    from easyep.errors import NotFirstRankError
    from easyep.recipe import Recipe
    from easyep.source import Source

    recipe = Recipe(
        model=str(arguments.work / "model"),
        demos=(str(arguments.work / "demos.jsonl"),),
        n_demos=arguments.demos,
        runner=arguments.runner,
        device=arguments.device,
    )
    begin = time.perf_counter()
    with suppress(NotFirstRankError):
        calibrate(recipe, Source.open(recipe.model))
    found = {
        "seconds": round(time.perf_counter() - begin, 2),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
    }
    if torch.cuda.is_available():
        found["peak_gpu_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
    number = os.environ.get("RANK", "0")
    (arguments.work / f"rank-{number}.json").write_text(json.dumps(found))


def measure(work: Path, runner: str, processes: int, arguments: argparse.Namespace) -> Any:
    """One run: what every process took."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(processes), __file__, "--work", str(work)]
    command += ["--runner", runner, "--device", arguments.device, "--demos", str(arguments.demos)]
    environment = {"OMP_NUM_THREADS": str(arguments.threads), **os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment)
    ranks = [json.loads((work / f"rank-{n}.json").read_text()) for n in range(processes)]
    return {
        "runner": runner,
        "processes": processes,
        "seconds": ranks[0]["seconds"],
        "peak_rss_gb": [rank["peak_rss_gb"] for rank in ranks],
        "peak_gpu_gb": [rank.get("peak_gpu_gb") for rank in ranks],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runners", nargs="+", default=["memory", "deepspeed"])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--demos", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--runner", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        observe(arguments)
        return
    work = Path(tempfile.mkdtemp(prefix="easyep-distributed-"))
    try:
        size = write(work, arguments)
        runs = [
            measure(work, runner, processes, arguments)
            for runner in arguments.runners
            for processes in arguments.processes
        ]
    finally:
        shutil.rmtree(work)
    result = {
        "checkpoint_gb": round(size / 1e9, 3),
        "demos": arguments.demos,
        "tokens_each": arguments.tokens,
        "threads_each": arguments.threads,
        "runs": runs,
        "device": arguments.device,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
