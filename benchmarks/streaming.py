"""Pruning a model that does not fit: DeepSeek-V3's true dimensions, streamed under a memory limit.

    python benchmarks/streaming.py --moe-layers 2 --demos 25 --tokens 512 --limit 6 --folder DIR
    python benchmarks/streaming.py --moe-layers 2 --demos 25 --tokens 512 --group 6 --folder DIR

Makes a block-FP8 checkpoint with random weights (hidden 7168, 256 experts of 2048, MLA, blocks of
128, the 576-row projection; one dense layer and the MoE layers asked for), then runs `easyep prune
--runner stream` in a process whose private memory is limited by the kernel (`--limit`, RLIMIT_DATA:
heap, anonymous mappings and stacks; allocations beyond it fail), or all of its memory, contents of
files included (`--group`, a control group; a process that needs more is killed). Says where the
time went. Reading and dequantising overlap with computing: the next experts are read and
dequantised by a second thread.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import control_group
from random_checkpoints import deepseek_v3, write, write_demos

from easyep.processor import processor


def prune(arguments: argparse.Namespace) -> dict[str, Any]:
    """In the limited process: prune, with a clock on each part."""
    from easyep import pipeline
    from easyep.checkpoint.rewriting import Rewriting
    from easyep.observation import streamed_experts, streaming
    from easyep.observation.lanes import Lane
    from easyep.observation.weights.partial import PartialModel
    from easyep.observation.weights.reading import WeightReader

    seconds: dict[str, float] = {}
    lock = threading.Lock()

    def clocked(owner: Any, name: str, part: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                with lock:
                    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - begin

        setattr(owner, name, timed)

    clocked(WeightReader, "_bytes", "reading")
    clocked(WeightReader, "_numbers", "dequantising")
    clocked(PartialModel, "place_experts", "stacking experts")
    clocked(PartialModel, "load_layer", "loading dense parts, reading and dequantising included")
    clocked(streamed_experts, "_answer", "computing experts")
    clocked(streaming, "run_experts", "experts in all, waiting for them included")
    clocked(Lane, "resume", "computing dense parts, attention included")
    clocked(Rewriting, "layer", "writing")
    if arguments.group_folder is not None:
        control_group.enter(arguments.group_folder)
    before = _counters()
    done = pipeline.prune(
        str(arguments.model),
        output=arguments.output,
        demos=(str(arguments.demo_file),),
        n_demos=arguments.demos,
        keep=0.5,
        runner="stream",
        mtp="drop",
        device=arguments.device,
        dtype=arguments.dtype,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": done.seconds,
        "parts_of_observe": {name: round(value, 1) for name, value in seconds.items()},
        "peak_rss_gb": round(peak / 1e9, 2),
        "read_from_disk_gb": round((_counters() - before) / 1e9, 2),
        "source_gb": round(done.rewritten.bytes_before / 1e9, 2),
        "pruned_gb": round(done.rewritten.bytes_after / 1e9, 2),
        "kept": done.selection.keep,
    }


def _counters() -> int:
    """Bytes that the kernel has fetched from storage for this process."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


@contextmanager
def _checkpoint(arguments: argparse.Namespace) -> Iterator[Path]:
    model = arguments.folder / f"deepseek-v3-shape-{arguments.moe_layers}"
    begin = time.perf_counter()
    size = 0 if model.exists() else write(model, *deepseek_v3(arguments.moe_layers))
    if size:
        print(f"wrote {size / 1e9:.1f} GB in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    try:
        yield model
    finally:
        if not arguments.keep_files:
            shutil.rmtree(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--moe-layers", type=int, default=1)
    parser.add_argument("--demos", type=int, default=25)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--limit", type=float, default=6.0, help="GiB of private memory; 0 = none")
    parser.add_argument("--group", type=float, help="GiB of memory, contents of files included")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", help="float32 may be faster on a CPU")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keep-files", action="store_true")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--group-folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--demo-file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model is not None:
        if arguments.limit:
            size = int(arguments.limit * (1 << 30))
            resource.setrlimit(resource.RLIMIT_DATA, (size, size))
        print(json.dumps(prune(arguments)))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    demo_file = arguments.folder / "demos.jsonl"
    write_demos(demo_file, arguments.demos, arguments.tokens)
    with _checkpoint(arguments) as model:
        output = arguments.folder / "pruned"
        shutil.rmtree(output, ignore_errors=True)
        own = ["--model", model, "--output", output, "--demo-file", demo_file]
        begin = time.perf_counter()
        with control_group.limited(arguments.group) if arguments.group else nullcontext() as group:
            if group is not None:
                own += ["--group-folder", group]
            ran = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], *map(str, own)],
                stdout=subprocess.PIPE,
                check=True,
            )
            result = json.loads(ran.stdout)
            if group is not None:
                result["group"] = control_group.facts(group)
        result["wall_seconds"] = round(time.perf_counter() - begin, 1)
        shutil.rmtree(output, ignore_errors=True)
    result |= {
        "moe_layers": arguments.moe_layers,
        "demos": arguments.demos,
        "tokens_each": arguments.tokens,
        "limit_gib": arguments.limit,
        "device": arguments.device,
        "dtype": arguments.dtype,
        "processor": processor(),
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
