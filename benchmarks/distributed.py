"""How time and memory fall with 1, 2 and 3 processes on one machine.

    python benchmarks/distributed.py --processes 1 2 3 --output benchmarks/results/distributed.json
    python benchmarks/distributed.py --device cuda --processes 1 2 --experts 32 --layers 16
    python benchmarks/distributed.py --table benchmarks/results/distributed.json

Makes a random Qwen3-MoE checkpoint and observes the same demonstrations with `--runner memory`
(every process has the model), `deepspeed` (divided over them) and `stream` (read layer by layer),
under torchrun. Nothing is timed before the libraries are imported and the processes have met.
Loading is what passes until the demonstrations begin to run; streaming loads while it runs.
Processor seconds are those of observing only. Memory is the peak of what a process has to itself,
looked at a hundred times a second: libraries' files and those of the checkpoint, which processes
share, do not count. On a GPU also the peak of what torch has allocated. A process has one thread,
as torchrun sets it; with `--threads 1 2` also two, where the cores suffice. Processes that share
cores do not show how time falls with more machines. Runs of an earlier call with the same sizes
stay in the file that `--output` names.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from easyep.processor import processor

os.environ.setdefault("GOMP_SPINCOUNT", "0")

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 300  # seconds that one run may take


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
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, arguments.dtype))
    model.save_pretrained(folder / "model")
    draw = np.random.default_rng(0)
    with open(folder / "demos.jsonl", "w") as out:
        for _ in range(arguments.demos):
            ids = draw.integers(0, 4096, arguments.tokens).tolist()
            out.write(json.dumps({"input_ids": ids, "response_start": 0}) + "\n")
    return sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors"))


class Watch:
    """Looks at one process: what it reads, holds and takes, and when demonstrations run.

    Attributes:
        before: seconds of the clock at which they began.
        seconds, cpu_seconds: that they took.
        held: bytes of the model's weights that the process had when they began.
        peak: bytes of memory that no other process has.
        readers: what read the checkpoint, where easyep did so itself.
    """

    def __init__(self) -> None:
        self.before = self.seconds = self.cpu_seconds = 0.0
        self.held = self.peak = 0
        self.readers: list[Any] = []
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            kilobytes = int(status.partition("RssAnon:")[2].split()[0])
            self.peak = max(self.peak, kilobytes * 1024)
            time.sleep(0.01)

    def follow(self, module: Any, name: str) -> None:
        """Take the time of a function of a module, whose first argument is the model."""
        run = getattr(module, name)

        def timed(model: Any, *arguments: Any, **choices: Any) -> Any:
            whole = getattr(model, "model", model)  # of a PartialModel
            self.held = sum(map(held, whole.parameters()))
            self.before, cpu = time.perf_counter(), time.process_time()
            try:
                return run(model, *arguments, **choices)
            finally:
                self.seconds = time.perf_counter() - self.before
                self.cpu_seconds = time.process_time() - cpu

        setattr(module, name, timed)

    def remember(self, reader: Any) -> None:
        """Keep what a class of readers makes."""
        make = reader.__init__

        def made(new: Any, *arguments: Any, **choices: Any) -> None:
            make(new, *arguments, **choices)
            self.readers.append(new)

        reader.__init__ = made


def held(parameter: Any) -> int:
    """Bytes of a parameter that this process has: of one that is divided, its part."""
    part = getattr(parameter, "ds_tensor", parameter)
    return 0 if part.is_meta else part.numel() * part.element_size()


def observe(arguments: argparse.Namespace) -> None:
    """In each process: observe, and write what it took."""
    import torch

    import easyep.observation.partitioned  # not timed: libraries are loaded once
    from easyep.calibration import calibrate
    from easyep.distributed import join
    from easyep.errors import NotFirstRankError
    from easyep.observation import in_memory, streaming
    from easyep.observation.weights.reading import WeightReader
    from easyep.recipe import Recipe
    from easyep.source import Source

    recipe = Recipe(
        model=str(arguments.work / "model"),
        demos=(str(arguments.work / "demos.jsonl"),),
        n_demos=arguments.demos,
        runner=arguments.runner,
        device=arguments.device,
        dtype=arguments.dtype,
        peer_timeout=LONGEST,
    )
    if arguments.runner == "deepspeed":
        easyep.observation.partitioned._deepspeed()
    watch = Watch()
    watch.follow(in_memory, "run_in_memory")
    watch.follow(streaming, "run_streaming")
    watch.remember(WeightReader)
    here = join(recipe.peer_timeout)
    here.meet("import its libraries")
    begin = time.perf_counter()
    with suppress(NotFirstRankError):
        calibrate(recipe, Source.open(recipe.model))
    found = {
        "seconds": round(time.perf_counter() - begin, 2),
        "load_seconds": round(watch.before - begin, 2),
        "observe_seconds": round(watch.seconds, 2),
        "observe_cpu_seconds": round(watch.cpu_seconds, 2),
        "peak_gb": round(watch.peak / 1e9, 3),
        "held_weights_gb": round(watch.held / 1e9, 3),
        "read_gb": round(sum(reader.bytes_read for reader in watch.readers) / 1e9, 3),
    }
    if arguments.runner == "memory":
        del found["read_gb"]  # transformers reads, from files that are mapped into memory
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
    subprocess.run(command, check=True, env=environment, timeout=LONGEST)
    ranks = [json.loads((work / f"rank-{n}.json").read_text()) for n in range(processes)]
    return {
        "runner": runner,
        "processes": processes,
        "threads_each": threads,
        **{name: [rank[name] for rank in ranks] for name in ranks[0]},
    }


def table(result: dict[str, Any]) -> str:
    """The runs as docs/large-machines.md shows them: of each number the largest of a process."""
    names = ["load_seconds", "observe_seconds", "observe_cpu_seconds"]
    names += ["held_weights_gb", "peak_gb", "read_gb"]
    lines = [
        "| `--runner` | processes | loading, s | observing, s | processor for observing, s "
        "| weights held, GB | peak memory, GB | read, GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in result["runs"]:
        digits = [(name, 2 if name.endswith("gb") else 1) for name in names]
        numbers = [f"{max(run[n]):.{d}f}" if n in run else "not counted" for n, d in digits]
        lines.append(f"| {' | '.join([run['runner'], str(run['processes']), *numbers])} |")
    return "\n".join(lines)


def earlier(result: dict[str, Any], arguments: argparse.Namespace) -> list[Any]:
    """The runs of an earlier call with the same sizes, but for those that are measured now."""
    if arguments.output is None or not arguments.output.exists():
        return []
    found = json.loads(arguments.output.read_text())
    if any(found.get(name) != value for name, value in result.items()):
        return []
    return [
        run
        for run in found["runs"]
        if run["runner"] not in arguments.runners or run["processes"] not in arguments.processes
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runners", nargs="+", default=["memory", "deepspeed", "stream"])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--demos", type=int, default=18)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="bfloat16 is slow on many CPUs")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", type=Path, help="print a file of results, measure nothing")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--runner", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        observe(arguments)
        return
    if arguments.table is not None:
        print(table(json.loads(arguments.table.read_text())))
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
        }
        result["runs"] = earlier(result, arguments)
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
