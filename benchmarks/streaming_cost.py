"""What streaming costs beside a plain run from memory, and how its cost grows.

    python benchmarks/streaming_cost.py --folder DIR --make       # 10 GB of random weights
    python benchmarks/streaming_cost.py --folder DIR              # six minutes
    python benchmarks/streaming_cost.py --folder DIR --small      # does it work?

Makes a Qwen3-MoE checkpoint with random weights in BF16 (5 GB: 24 layers of 64 experts) and runs
each case in a process of its own, one after the other:

* `memory`: transformers loads the model and runs each demonstration once, nothing recorded;
* `stream`: `easyep observe --runner stream`, with everything that it writes;
* the same at three numbers of tokens, and at three numbers of layers.

All cases are run one after the other, then all once more; the fastest of each counts. The files are
in the page cache each time. Times are of loading and running, without Python's imports. Memory is
the process's peak resident size, imports included. Bytes read are those that easyep asked the files
for.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from random_checkpoints import qwen3_moe, write, write_demos

from easyep.processor import processor

LAYERS, DEMOS, TOKENS = 24, 4, 64
RATIO, SHARE = 1.3, 1 / 5  # what is asked for


def plain(model: Path, demo_file: Path) -> dict[str, float]:
    """Load the whole model and run the demonstrations, as anybody would."""
    import torch
    from transformers import Qwen3MoeForCausalLM  # noqa: F401 imports are not counted

    from easyep.loading import load_model

    lines = [json.loads(line) for line in demo_file.read_text().splitlines()]
    begin = time.perf_counter()
    loaded: Any = load_model(model, device="cpu")
    with torch.inference_mode():
        for line in lines:
            loaded.model(input_ids=torch.tensor([line["input_ids"]]), use_cache=False)
    return {"seconds": time.perf_counter() - begin}


def streamed(model: Path, demo_file: Path) -> dict[str, float]:
    """Observe by streaming, records saved."""
    from transformers import Qwen3MoeForCausalLM  # noqa: F401 imports are not counted

    from easyep import pipeline
    from easyep.observation import streaming  # noqa: F401
    from easyep.observation.weights.reading import WeightReader

    readers: list[WeightReader] = []
    original = WeightReader.close
    WeightReader.close = lambda self: readers.append(self) or original(self)  # type: ignore
    output = demo_file.with_suffix(".observations")
    shutil.rmtree(output, ignore_errors=True)
    begin = time.perf_counter()
    pipeline.observe(model, demos=demo_file, n_demos=1000, runner="stream", output=output)
    seconds = time.perf_counter() - begin
    shutil.rmtree(output)
    return {"seconds": seconds, "read_gb": max(r.bytes_read for r in readers) / 1e9}


def measured(how: str, model: Path, folder: Path, demos: int, tokens: int) -> dict[str, Any]:
    """One case, in a process of its own."""
    demo_file = folder / f"{how}-{demos}-{tokens}.jsonl"
    write_demos(demo_file, demos, tokens)
    command = [sys.executable, __file__, "--case", how, "--model", str(model)]
    command += ["--demo-file", str(demo_file), "--folder", str(folder)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    found: dict[str, Any] = json.loads(ran.stdout)
    result = {"case": how, "checkpoint_gb": round(size / 1e9, 2), "tokens": demos * tokens} | found
    print(json.dumps(result), file=sys.stderr)
    return result


def case(arguments: argparse.Namespace) -> None:
    run = {"memory": plain, "stream": streamed}[arguments.case]
    found = run(arguments.model, arguments.demo_file)
    found["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    found["cpu_seconds"] = cpu.ru_utime + cpu.ru_stime
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


def fit(cases: list[dict[str, Any]], over: str) -> dict[str, Any]:
    """Times against a straight line through the first and the last."""
    x = [float(each[over]) for each in cases]
    found: dict[str, Any] = {over: [int(each) for each in x]}
    for what in ("seconds", "cpu_seconds"):
        y = [float(each[what]) for each in cases]
        slope = (y[-1] - y[0]) / (x[-1] - x[0])
        line = [y[0] + slope * (each - x[0]) for each in x]
        found[what] = {
            "measured": y,
            "each_more": round(slope, 4),
            "middle_beside_the_line": round(y[1] / line[1], 3),
        }
    return found


def make(folder: Path, layers: int, sizes: dict[str, int]) -> dict[int, Path]:
    """The checkpoints, those that are not there yet; number of layers -> folder."""
    models = {count: folder / f"layers-{count}" for count in (layers // 3, 2 * layers // 3, layers)}
    for count, model in models.items():
        if not model.exists():
            write(model, *qwen3_moe(count, **sizes))
    os.sync()  # nothing is written any more while times are taken
    return models


def read_through(model: Path) -> None:
    """Leave the files in the page cache: the disk's speed is not what is compared."""
    for file in model.glob("*.safetensors"):
        with open(file, "rb", buffering=0) as opened:
            while opened.read(1 << 24):
                pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--small", action="store_true", help="a small model, to see that it works")
    parser.add_argument("--make", action="store_true", help="make the checkpoints, and no more")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--demo-file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        case(arguments)
        return
    folder = arguments.folder / "streaming-cost"
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"hidden": 128, "inner": 64, "experts": 16} if arguments.small else {}
    layers = 6 if arguments.small else LAYERS
    tokens = 32 if arguments.small else TOKENS
    models = make(folder, layers, sizes)
    if arguments.make:
        return
    runs = [("memory", layers, 1), *(("stream", layers, times) for times in (1, 2, 3))]
    runs += [("stream", count, 1) for count in models if count < layers]
    all_of: dict[tuple[str, int, int], list[dict[str, Any]]] = {run: [] for run in runs}
    try:
        for _ in range(arguments.repeats):
            for run, found in all_of.items():
                how, count, times = run
                read_through(models[count])
                one = measured(how, models[count], folder, DEMOS * times, tokens)
                found.append(one | {"layers": count})
    finally:
        shutil.rmtree(folder)
    fastest = {run: min(found, key=lambda x: x["seconds"]) for run, found in all_of.items()}
    memory, streamed_ = fastest["memory", layers, 1], fastest["stream", layers, 1]
    ratio = streamed_["seconds"] / memory["seconds"]
    peak = max(each["peak_rss_gb"] for each in all_of["stream", layers, 1])
    share = peak / memory["checkpoint_gb"]
    result = {
        "time_beside_memory": round(ratio, 3),
        "time_holds": ratio <= RATIO,
        "peak_rss_of_checkpoint": round(share, 3),
        "memory_holds": share < SHARE,
        "by_tokens": fit([fastest["stream", layers, times] for times in (1, 2, 3)], "tokens"),
        "by_layers": fit([fastest["stream", count, 1] for count in models], "layers"),
        "cases": [one for found in all_of.values() for one in found],
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
