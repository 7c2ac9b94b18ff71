"""How time and memory fall with 1, 2 and 3 processes on one machine.

    python benchmarks/distributed.py --processes 1 2 3 --output benchmarks/results/distributed.json
    python benchmarks/distributed.py --device cuda --processes 1 2 --experts 32 --layers 16

Makes a random Qwen3-MoE checkpoint and observes the same demonstrations with `--runner memory`
(every process has the model), `deepspeed` (divided over them) and `stream` (read layer by layer),
under torchrun. Time is that of `calibrate`, when libraries are imported, and what of it passes
before the demonstrations run: meeting, and loading the model unless it is streamed. Memory is the
peak of a process's resident set, the libraries' own included, and on a GPU also the peak of what
torch has allocated; CPU seconds are those of the whole process, imports included. A process has one
thread, as torchrun sets it; with `--threads 1 2` also two, where the cores suffice. Processes that
share cores do not show how time falls with more machines.
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


class Watch:
    """A progress that remembers when the demonstrations began to run."""

    begin = 0.0

    def task(self, title: str, total: int, unit: str) -> Any:
        from easyep.progress import SILENT

        self.begin = time.perf_counter()
        return SILENT.task(title, total, unit)

    def say(self, sentence: str) -> None:
        pass


def observe(arguments: argparse.Namespace) -> None:
    """In each process: observe, and write what it took."""
    import torch

    import easyep.observation.partitioned  # not timed: libraries are loaded once
    import easyep.observation.streaming  # noqa: F401
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
        dtype=arguments.dtype,
    )
    if arguments.runner == "deepspeed":
        import deepspeed  # noqa: F401
    begin = time.perf_counter()
    watch = Watch()
    with suppress(NotFirstRankError):
        calibrate(recipe, Source.open(recipe.model), progress=watch)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "seconds": round(time.perf_counter() - begin, 2),
        "seconds_before": round(watch.begin - begin, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_rss_gb": round(used.ru_maxrss * 1024 / 1e9, 3),
    }
    if torch.cuda.is_available():
        found["peak_gpu_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
    number = os.environ.get("RANK", "0")
    (arguments.work / f"rank-{number}.json").write_text(json.dumps(found))


def measure(
    work: Path, runner: str, processes: int, threads: int, arguments: argparse.Namespace
) -> Any:
    """One run: what every process took."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(processes), __file__, "--work", str(work)]
    command += ["--runner", runner, "--device", arguments.device, "--dtype", arguments.dtype]
    command += ["--demos", str(arguments.demos)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment)
    ranks = [json.loads((work / f"rank-{n}.json").read_text()) for n in range(processes)]
    return {
        "runner": runner,
        "processes": processes,
        "threads_each": threads,
        "seconds": ranks[0]["seconds"],
        "seconds_before": ranks[0]["seconds_before"],
        "cpu_seconds": [rank["cpu_seconds"] for rank in ranks],
        "peak_rss_gb": [rank["peak_rss_gb"] for rank in ranks],
        "peak_gpu_gb": [rank.get("peak_gpu_gb") for rank in ranks],
    }


def processor() -> str:
    """Its name, where the system tells it (Linux)."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runners", nargs="+", default=["memory", "deepspeed", "stream"])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--demos", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="bfloat16 is slow on many CPUs")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--runner", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        observe(arguments)
        return
    work = Path(tempfile.mkdtemp(prefix="easyep-distributed-"))
    try:
        result: dict[str, Any] = {
            "checkpoint_gb": round(write(work, arguments) / 1e9, 3),
            "demos": arguments.demos,
            "tokens_each": arguments.tokens,
            "device": arguments.device,
            "dtype": arguments.dtype,
            "processor": processor(),
            "cores": os.cpu_count(),
            "date": time.strftime("%Y-%m-%d"),
            "runs": [],
        }
        for runner in arguments.runners:
            for processes in arguments.processes:
                for threads in arguments.threads:
                    if threads == 1 or processes * threads <= (os.cpu_count() or 1):
                        result["runs"].append(measure(work, runner, processes, threads, arguments))
                        print(json.dumps(result["runs"][-1]), flush=True)
                        if arguments.output is not None:
                            arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
