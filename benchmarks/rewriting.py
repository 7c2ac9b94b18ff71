"""How fast a checkpoint is rewritten, as a ratio to `cp` of as many bytes in the same run.

    python benchmarks/rewriting.py --gigabytes 1 --rounds 5 --folder /somewhere/with/room
    python benchmarks/rewriting.py --plan-only      # DeepSeek-V3's shape, headers only

Both sides end with their files on disk (fsync). Times are medians of interleaved rounds; "warm"
has the source in the page cache, "cold" has it dropped from there first.
"""

import argparse
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from easyep.architectures.spec import find_architecture
from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.headers import build_header, bytes_of
from easyep.checkpoint.layout import resolve
from easyep.checkpoint.planning import plan

Form = tuple[str, tuple[int, ...]]


def deepseek(layers: int, experts: int, hidden: int, inner: int) -> dict[str, Form]:
    """Names, types and shapes of a block-FP8 DeepSeek-V3, attention simplified."""
    tensors: dict[str, Form] = {"model.embed_tokens.weight": ("BF16", (1024, hidden))}

    def quantised(name: str, rows: int, columns: int) -> None:
        tensors[f"{name}.weight"] = ("F8_E4M3", (rows, columns))
        tensors[f"{name}.weight_scale_inv"] = ("F32", (-(-rows // 128), -(-columns // 128)))

    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for part in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"):
            quantised(f"{prefix}self_attn.{part}", 576, hidden)
        if layer < 3:
            quantised(f"{prefix}mlp.up_proj", inner, hidden)
            continue
        tensors[f"{prefix}mlp.gate.weight"] = ("BF16", (experts, hidden))
        tensors[f"{prefix}mlp.gate.e_score_correction_bias"] = ("F32", (experts,))
        for expert in range(experts):
            for part in ("gate_proj", "up_proj", "down_proj"):
                rows, columns = (hidden, inner) if part == "down_proj" else (inner, hidden)
                quantised(f"{prefix}mlp.experts.{expert}.{part}", rows, columns)
    tensors["lm_head.weight"] = ("BF16", (1024, hidden))
    return tensors


def write(path: Path, tensors: dict[str, Form], layers: int, experts: int, *, data: bool) -> None:
    """A checkpoint in shards of about a 163rd each (at least 64 MB); without `data`, sparse."""
    total = sum(bytes_of(*form) for form in tensors.values())
    limit = max(64_000_000, total // 163)
    shards: list[dict[str, Form]] = [{}]
    size = 0
    for name, form in tensors.items():
        if size > limit:
            shards.append({})
            size = 0
        shards[-1][name] = form
        size += bytes_of(*form)
    weight_map = {}
    block = random.Random(0).randbytes(1 << 20)
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map.update(dict.fromkeys(shard, file))
        # As the reference writer orders them: wide types first, then by name.
        order = sorted(shard, key=lambda name: (-bytes_of(shard[name][0], (1,)), name))
        with open(path / file, "wb") as out:
            out.write(build_header(((n, *shard[n]) for n in order), {"format": "pt"}))
            left = sum(bytes_of(*form) for form in shard.values())
            if not data:
                out.truncate(out.tell() + left)
                continue
            while left:
                left -= out.write(block[: min(left, len(block))])
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "model_type": "deepseek_v3",
        "num_hidden_layers": layers,
        "n_routed_experts": experts,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "first_k_dense_replace": 3,
        "num_nextn_predict_layers": 0,
    }
    (path / "config.json").write_text(json.dumps(config, indent=2))


def selection(path: Path) -> Selection:
    """Half of the experts, at random in each group."""
    checkpoint = Checkpoint.open(path)
    layout = resolve(checkpoint, find_architecture(checkpoint.config))
    router, rng = layout.router, random.Random(1)
    size = router.num_experts // router.n_group

    def experts() -> tuple[int, ...]:
        blocks = (range(g * size, (g + 1) * size) for g in range(router.n_group))
        return tuple(sorted(e for block in blocks for e in rng.sample(block, size // 2)))

    return Selection(
        model=checkpoint.identity("benchmark"),
        num_experts=router.num_experts,
        keep=router.num_experts // 2,
        groups="balanced",
        criterion="random",
        layers={layer: experts() for layer in layout.moe_layers},
    )


REWRITE = """
import resource, sys, time
from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
start = time.perf_counter()
rewrite(sys.argv[1], Selection.load(sys.argv[2]), sys.argv[3])
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

COPY = """
import os, shutil, subprocess, sys, time
start = time.perf_counter()
subprocess.run(["cp", "-r", sys.argv[1], sys.argv[2]], check=True)
for folder, _, files in os.walk(sys.argv[2]):
    for file in files:
        descriptor = os.open(os.path.join(folder, file), os.O_RDWR)
        os.fsync(descriptor)
print(time.perf_counter() - start, 0)
"""


def measured(code: str, *arguments: Path) -> tuple[float, int]:
    """Seconds and peak memory (KiB) of `code` in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, memory = done.stdout.split()
    return float(seconds), int(memory)


def evict(path: Path) -> None:
    """Ask the kernel to forget the files' pages."""
    for file in path.glob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def compare(folder: Path, gigabytes: float, rounds: int) -> dict[str, Any]:
    """Rewriting against `cp` of a directory with as many bytes."""
    source = folder / "source"
    source.mkdir()
    hidden, inner, experts = 2048, 1024, 64
    layers = 3 + max(1, round(gigabytes * 1e9 / (experts * 3 * hidden * inner)))
    write(source, deepseek(layers, experts, hidden, inner), layers, experts, data=True)
    selection(source).save(folder / "selection.json")
    # What `cp` copies is a pruned checkpoint itself: the same bytes in the same files.
    measured(REWRITE, source, folder / "selection.json", folder / "model")
    size = sum(file.stat().st_size for file in (folder / "model").iterdir())
    facts: dict[str, Any] = {"source_bytes": Checkpoint.open(source).nbytes, "kept_bytes": size}
    for state in ("warm", "cold"):
        times: dict[str, list[float]] = {"rewrite": [], "cp": []}
        memory = 0
        steps: dict[str, Callable[[], tuple[float, int]]] = {
            "rewrite": lambda: measured(REWRITE, source, folder / "selection.json", folder / "out"),
            "cp": lambda: measured(COPY, folder / "model", folder / "out"),
        }
        for _ in range(rounds):
            for name, step in steps.items():
                if state == "cold":
                    evict(source)
                    evict(folder / "model")
                seconds, peak = step()
                times[name].append(seconds)
                memory = max(memory, peak)
                shutil.rmtree(folder / "out")
        medians = {name: statistics.median(each) for name, each in times.items()}
        facts[state] = {
            **{f"{name}_seconds": round(each, 3) for name, each in medians.items()},
            "ratio": round(medians["rewrite"] / medians["cp"], 3),
            "peak_rss_mb": round(memory / 1024, 1),
        }
    return facts


def plan_only(folder: Path) -> dict[str, Any]:
    """Opening, explaining and planning DeepSeek-V3 (61 layers of 256 experts), no data at all."""
    write(folder, deepseek(61, 256, 7168, 2048), 61, 256, data=False)
    clock = [time.perf_counter()]
    checkpoint = Checkpoint.open(folder)
    clock.append(time.perf_counter())
    chosen = selection(folder)
    clock.append(time.perf_counter())
    work = plan(checkpoint, chosen)
    clock.append(time.perf_counter())
    return {
        "tensors": len(checkpoint.tensors),
        "shards": len(checkpoint.shards),
        "open_seconds": round(clock[1] - clock[0], 2),
        "plan_seconds": round(clock[3] - clock[2], 2),
        "output_shards": len(work.shards),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the source")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; needs 3x the size"
    )
    parser.add_argument("--plan-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.plan_only:
            facts = plan_only(Path(folder))
        else:
            facts = compare(Path(folder), options.gigabytes, options.rounds)
    machine = {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }
    print(json.dumps({**facts, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
