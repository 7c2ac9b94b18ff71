"""How fast a pruned checkpoint is verified, as ratios to `cmp` and to SHA-256 in the same run.

    python benchmarks/verifying.py --gigabytes 2 --rounds 5 --folder /somewhere/with/room

Verifying hashes every byte of the pruned checkpoint and compares it with the source. `cmp` compares
the same files with a copy of them; "sha256" hashes them with hashlib; both one file after another.
Wall times are medians of interleaved rounds with all files in the page cache; CPU times are of all
threads.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rewriting import machine
from synthetic import deepseek, deepseek_config, random_bytes, selection, write

from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite

VERIFY = """
import resource, sys, time
from easyep.checkpoint.verification import verify
start = time.perf_counter()
assert verify(sys.argv[1], sys.argv[2], jobs=int(sys.argv[3]) or None).ok
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
print(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""

CMP = """
import resource, subprocess, sys, time
from pathlib import Path
start = time.perf_counter()
for file in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    subprocess.run(["cmp", file, Path(sys.argv[2]) / file.name], check=True)
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""

SHA256 = """
import hashlib, resource, sys, time
from pathlib import Path
start = time.perf_counter()
buffer = memoryview(bytearray(1 << 19))
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
print(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def measured(code: str, *arguments: str | Path) -> tuple[float, float, int]:
    """Seconds, seconds of CPU, and peak memory (KiB) of `code` in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, cpu, memory = done.stdout.split()
    return float(seconds), float(cpu), int(memory)


def compare(folder: Path, gigabytes: float, rounds: int, shard_size: int) -> dict[str, Any]:
    """Verifying against `cmp` and SHA-256 of as many bytes."""
    source, model, copy = folder / "source", folder / "model", folder / "copy"
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
    chosen = Selection.load(folder / "selection.json")
    rewrite(source, chosen, model, max_shard_size=shard_size)
    subprocess.run(["cp", "-r", model, copy], check=True)
    ways = {
        "verify": (VERIFY, model, source, "0"),
        "verify_one_job": (VERIFY, model, source, "1"),
        "cmp": (CMP, model, copy),
        "sha256": (SHA256, model),
    }
    for way in ways.values():
        measured(*way)  # brings all files into the page cache
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(measured(*way))
    seconds, cpu, memory = (
        {name: statistics.median(each[i] for each in found[name]) for name in ways}
        for i in range(3)
    )
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return {
        "bytes": size,
        "files": len(list(model.glob("*.safetensors"))),
        "rounds": rounds,
        "seconds": {name: round(each, 3) for name, each in seconds.items()},
        "cpu_seconds": {name: round(each, 3) for name, each in cpu.items()},
        "ratio_to_cmp": round(seconds["verify"] / seconds["cmp"], 2),
        "cpu_ratio_to_cmp": round(cpu["verify"] / cpu["cmp"], 2),
        "cpu_ratio_to_sha256": round(cpu["verify"] / cpu["sha256"], 2),
        "ratio_to_sha256": round(seconds["verify"] / seconds["sha256"], 2),
        "one_job_ratio_to_sha256": round(seconds["verify_one_job"] / seconds["sha256"], 2),
        "peak_rss_mb": round(memory["verify"] / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the source")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shard-size", type=int, default=200_000_000, help="bytes of one file")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; needs 2x the size"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        facts = compare(Path(folder), options.gigabytes, options.rounds, options.shard_size)
        print(json.dumps({**facts, "machine": machine(Path(folder))}, indent=2))


if __name__ == "__main__":
    main()
