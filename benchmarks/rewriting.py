"""How fast a checkpoint is rewritten, as a ratio to `cp` of as many bytes in the same run.

    python benchmarks/rewriting.py --gigabytes 1 --rounds 5 --folder /somewhere/with/room
    python benchmarks/rewriting.py --plan-only      # DeepSeek-V3's shape, headers only

Both sides end with their files on disk (fsync); rewriting has hashed them besides. Times are
medians of interleaved rounds; "warm" has the source in memory, "cold" has it dropped from there
first. What was measured is in `results/`.
"""

import argparse
import json
import os
import platform
import random
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
rewrite(sys.argv[1], Selection.load(sys.argv[2]), sys.argv[3], max_shard_size=int(sys.argv[4]))
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
print(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""

COPY = """
import os, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(["cp", "-r", sys.argv[1], sys.argv[2]], check=True)
for folder, _, files in os.walk(sys.argv[2]):
    for file in files:
        descriptor = os.open(os.path.join(folder, file), os.O_RDWR)
        os.fsync(descriptor)
seconds = time.perf_counter() - start
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(seconds, sum(each.ru_utime + each.ru_stime for each in used), used[1].ru_maxrss)
"""


def measured(code: str, *arguments: Path | int) -> tuple[float, float, int]:
    """Seconds, seconds of CPU and peak memory (KiB) of `code` in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, cpu, memory = done.stdout.split()
    return float(seconds), float(cpu), int(memory)


def evict(path: Path) -> None:
    """Ask the kernel to forget the files' pages."""
    for file in path.glob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def fill_memory(folder: Path) -> None:
    """Fill free memory with pages of an empty file.

    A virtual machine asks its host for each page that it has not used yet, which takes several
    times as long as copying it, and hits whichever step comes by. From now on new pages are pages
    given up by this file.
    """
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(facts["MemFree"].split()[0]) * 1024 - 500_000_000
    with open(folder / "empty", "wb+") as file:
        file.truncate(max(0, free))
        while file.read(1 << 20):
            pass


def compare(folder: Path, gigabytes: float, rounds: int, shard_size: int) -> dict[str, Any]:
    """Rewriting against `cp` of a directory with as many bytes."""
    source = folder / "source"
    source.mkdir()
    hidden, inner, experts = 2048, 1024, 64
    layers = 3 + max(1, round(gigabytes * 1e9 / (experts * 3 * hidden * inner)))
    write(source, deepseek(layers, experts, hidden, inner), layers, experts, data=True)
    selection(source).save(folder / "selection.json")
    chosen = (source, folder / "selection.json")
    # What `cp` copies is a pruned checkpoint itself: the same bytes in the same files.
    measured(REWRITE, *chosen, folder / "model", shard_size)
    files = list((folder / "model").iterdir())
    facts: dict[str, Any] = {
        "source_bytes": Checkpoint.open(source).nbytes,
        "kept_bytes": sum(file.stat().st_size for file in files),
        "weight_files": sum(file.suffix == ".safetensors" for file in files),
        "rounds": rounds,
    }
    fill_memory(folder)
    for state in ("warm", "cold"):
        facts[state] = _medians(folder, chosen, rounds, shard_size, cold=state == "cold")
    return facts


def _medians(
    folder: Path, chosen: tuple[Path, Path], rounds: int, shard_size: int, *, cold: bool
) -> dict[str, Any]:
    steps: dict[str, Callable[[], tuple[float, float, int]]] = {
        "rewrite": lambda: measured(REWRITE, *chosen, folder / "out", shard_size),
        "cp": lambda: measured(COPY, folder / "model", folder / "out"),
    }
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            if cold:
                evict(chosen[0])
                evict(folder / "model")
            result = step()
            if number:  # the first round brings both sides into the page cache
                found[name].append(result)
            shutil.rmtree(folder / "out")
    seconds = {name: [each[0] for each in all_of] for name, all_of in found.items()}
    ratios = [ours / theirs for ours, theirs in zip(*seconds.values(), strict=True)]
    return {
        **{f"{name}_seconds": _rounded(statistics.median(each)) for name, each in seconds.items()},
        **{
            f"{name}_cpu_seconds": _rounded(statistics.median(each[1] for each in all_of))
            for name, all_of in found.items()
        },
        "ratio": _rounded(statistics.median(seconds["rewrite"]) / statistics.median(seconds["cp"])),
        "ratio_of_each_round": [_rounded(each) for each in ratios],
        "peak_rss_mb": round(max(each[2] for each in found["rewrite"]) / 1024, 1),
    }


def _rounded(value: float) -> float:
    return round(value, 3)


PLAN = """
import resource, sys, time
from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.planning import plan
chosen = Selection.load(sys.argv[2])
start = time.perf_counter()
checkpoint = Checkpoint.open(sys.argv[1])
opened = time.perf_counter()
work = plan(checkpoint, chosen)
planned = time.perf_counter()
used = resource.getrusage(resource.RUSAGE_SELF)
print(len(checkpoint.tensors), len(checkpoint.shards), len(work.shards), opened - start,
      planned - opened, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def plan_only(folder: Path) -> dict[str, Any]:
    """Opening and planning DeepSeek-V3 (61 layers of 256 experts), and a half and a quarter of it.

    The files are sparse: real headers, no data.
    """
    facts = {}
    for share, layers in {"quarter": 18, "half": 32, "whole": 61}.items():
        path = folder / share
        path.mkdir()
        write(path, deepseek(layers, 256, 7168, 2048), layers, 256, data=False)
        selection(path).save(folder / "selection.json")
        command = [sys.executable, "-c", PLAN, str(path), str(folder / "selection.json")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        tensors, shards, output_shards, opening, planning, cpu, memory = done.stdout.split()
        facts[share] = {
            "layers": layers,
            "tensors": int(tensors),
            "shards": int(shards),
            "output_shards": int(output_shards),
            "open_seconds": _rounded(float(opening)),
            "plan_seconds": _rounded(float(planning)),
            "cpu_seconds": _rounded(float(cpu)),
            "peak_rss_mb": round(int(memory) / 1024, 1),
        }
    return facts


def machine(folder: Path) -> dict[str, Any]:
    """What the numbers were measured on."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    system = ["stat", "--file-system", "--format=%T", str(folder)]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": next((line.split(": ")[1] for line in cpus if "model name" in line), "unknown"),
        "sha256_instructions": any(" sha_ni" in line for line in cpus),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "file_system": subprocess.run(system, capture_output=True, text=True).stdout.strip(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(each, 2) for each in os.getloadavg()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the source")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shard-size", type=int, default=5_000_000_000, help="bytes of one file")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; needs 3x the size"
    )
    parser.add_argument("--plan-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.plan_only:
            facts = plan_only(Path(folder))
        else:
            facts = compare(Path(folder), options.gigabytes, options.rounds, options.shard_size)
        print(json.dumps({**facts, "machine": machine(Path(folder))}, indent=2))


if __name__ == "__main__":
    main()
