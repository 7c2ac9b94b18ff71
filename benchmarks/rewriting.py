"""How fast a checkpoint is rewritten, as a ratio to `cp` of as many bytes in the same run.

    python benchmarks/rewriting.py --folder /somewhere/with/room --output result.json
    python benchmarks/rewriting.py --plan-only      # DeepSeek-V3's shape, headers only

Both sides end with their files on disk (fsync); rewriting has hashed them besides. Times are
medians of interleaved rounds; "warm" has the source in memory, "cold" has it dropped from there
first. "read_bytes" is what the kernel counted as fetched from the disk for the process, in the
cold rounds; "other_cpu_seconds" is what all other processes, the kernel's writing to disk and the
host of a virtual machine took from the processors meanwhile. What was measured is in `results/`.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from synthetic import deepseek, deepseek_config, random_bytes, selection, write

from easyep.checkpoint.files import Checkpoint
from easyep.processor import processor

REWRITE = """
import resource, sys, time
from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
start = time.perf_counter()
rewrite(sys.argv[1], Selection.load(sys.argv[2]), sys.argv[3], max_shard_size=int(sys.argv[4]))
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
print(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss, used.ru_inblock * 512)
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
print(seconds, sum(each.ru_utime + each.ru_stime for each in used), used[1].ru_maxrss,
      sum(each.ru_inblock for each in used) * 512)
"""


STATES = ["warm", "cold"]


class Used(NamedTuple):
    """What a process took: seconds, seconds of all cores, KiB at its peak, bytes from the disk;
    and how many seconds of the cores were others' meanwhile."""

    seconds: float
    cpu: float
    memory: int
    read_bytes: int
    other_cpu: float


def measured(code: str, *arguments: Path | int) -> Used:
    """Run `code` in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    before = _busy_elsewhere()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    others = _busy_elsewhere() - before
    seconds, cpu, memory, read_bytes = done.stdout.split()
    return Used(float(seconds), float(cpu), int(memory), int(read_bytes), others)


def _busy_elsewhere() -> float:
    """Seconds that the cores were at work, or taken by the host, so far, less our children's."""
    user, nice, system, _, _, *interrupts = map(int, _first_line("/proc/stat").split()[1:9])
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    return busy - ours.ru_utime - ours.ru_stime


def _first_line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline()


def evict(path: Path) -> None:
    """Ask the kernel to forget the files' pages."""
    for file in path.glob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def fill_memory(folder: Path) -> None:
    """Fill free memory with pages of an empty file.

    A virtual machine gives freed pages back to its host and asks for them again, which takes
    several times as long as copying them, and hits whichever step comes by. After this a step's
    new pages are pages given up by this file.
    """
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(facts["MemFree"].split()[0]) * 1024 - 300_000_000
    with open(folder / "empty", "ab+") as file:
        end = file.seek(0, os.SEEK_END)
        file.truncate(end + max(0, free))
        file.seek(end)
        while file.read(1 << 20):
            pass


def compare(
    folder: Path, gigabytes: float, rounds: int, shard_size: int, states: list[str]
) -> dict[str, Any]:
    """Rewriting against `cp` of a directory with as many bytes."""
    source = folder / "source"
    source.mkdir()
    hidden, inner, experts = 2048, 1024, 64
    layers = 3 + max(1, round(gigabytes * 1e9 / (experts * 3 * hidden * inner)))
    write(
        source,
        deepseek(layers, experts, hidden, inner),
        deepseek_config(layers, experts),
        data=random_bytes(),
    )
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
    for state in states:
        facts[state] = _medians(folder, chosen, rounds, shard_size, cold=state == "cold")
    return facts


def _medians(
    folder: Path, chosen: tuple[Path, Path], rounds: int, shard_size: int, *, cold: bool
) -> dict[str, Any]:
    steps: dict[str, Callable[[], Used]] = {
        "rewrite": lambda: measured(REWRITE, *chosen, folder / "out", shard_size),
        "cp": lambda: measured(COPY, folder / "model", folder / "out"),
    }
    found: dict[str, list[Used]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            if cold:
                evict(chosen[0])
                evict(folder / "model")
            fill_memory(folder)
            result = step()
            if number:  # the first round brings both sides into the page cache
                found[name].append(result)
            shutil.rmtree(folder / "out")

    def median(what: str) -> dict[str, float]:
        return {
            name: statistics.median(getattr(each, what) for each in all_of)
            for name, all_of in found.items()
        }

    seconds, cpu, read_bytes = median("seconds"), median("cpu"), median("read_bytes")
    each_round = zip(found["rewrite"], found["cp"], strict=True)
    return {
        **{f"{name}_seconds": _rounded(value) for name, value in seconds.items()},
        **{f"{name}_cpu_seconds": _rounded(value) for name, value in cpu.items()},
        **{f"{name}_other_cpu_seconds": _rounded(v) for name, v in median("other_cpu").items()},
        **{f"{name}_read_bytes": int(value) for name, value in read_bytes.items() if cold},
        "ratio": _rounded(seconds["rewrite"] / seconds["cp"]),
        "ratio_of_each_round": [_rounded(ours.seconds / cp.seconds) for ours, cp in each_round],
        "peak_rss_mb": round(max(each.memory for each in found["rewrite"]) / 1024, 1),
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
        write(path, deepseek(layers, 256, 7168, 2048), deepseek_config(layers, 256))
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
        "cpu": processor(),
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
    parser.add_argument(
        "--gigabytes", type=float, nargs="+", default=[2.0, 6.0], help="sizes of the source"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--states", nargs="+", choices=STATES, default=STATES)
    parser.add_argument("--shard-size", type=int, default=5_000_000_000, help="bytes of one file")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; needs 2.5x the largest size"
    )
    parser.add_argument("--output", type=Path, default=None, help="the result, as JSON")
    parser.add_argument("--plan-only", action="store_true")
    options = parser.parse_args()
    facts: dict[str, Any] = {}
    for size in ["plan"] if options.plan_only else options.gigabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            if options.plan_only:
                facts |= plan_only(folder)
            else:
                found = compare(folder, size, options.rounds, options.shard_size, options.states)
                facts[f"{size:g} GB"] = found
                print(f"{size:g} GB: {json.dumps(found)}", file=sys.stderr, flush=True)
            facts["machine"] = machine(folder)
    text = json.dumps(facts, indent=2) + "\n"
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
