"""How much of the disk `easyep prune --runner stream` reads, as a share of the checkpoint.

    python benchmarks/one_read.py --gigabytes 3 --folder /somewhere/with/room --output result.json

Counts are the kernel's (`read_bytes` in /proc/self/io), of the whole run: observing, rewriting and
verifying. The source is dropped from the page cache before. Four cases:

    fits            nothing more: a layer stays in free memory until it is copied
    does not fit    the run has so little memory, contents of files included, that most of a layer
                    is gone again when it is copied (`--group`, a control group)
    nothing stays   the source is dropped from the page cache again whenever a layer was run, before
                    it is copied: what a machine does that has no free memory at all
    two stages      observing first, rewriting and verifying afterwards, the source and the output
                    dropped between the stages: what is saved

Pages are dropped with posix_fadvise; a file system that keeps them all the same (tmpfs) shows 0.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import control_group
import numpy as np
from rewriting import evict, machine
from synthetic import VOCABULARY, qwen3_moe, qwen3_moe_config, small_numbers, write

CASES = ("fits", "does not fit", "nothing stays", "two stages")


def counted() -> int:
    """Bytes that the kernel has fetched from storage for this process."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


def prune(case: str, model: Path, demos: Path, output: Path) -> dict[str, Any]:
    """In a process of its own: prune and count."""
    import torch
    from transformers.models.qwen3_moe import modeling_qwen3_moe

    from easyep import one_read, pipeline
    from easyep.checkpoint import rewriting, verification

    del torch, modeling_qwen3_moe  # read from the disk now, not while it is counted

    def before(owner: Any, name: str, *paths: Path) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def evicting(*args: Any, **kwargs: Any) -> Any:
            for path in paths or [Path(args[0])]:
                evict(path)
            return original(*args, **kwargs)

        setattr(owner, name, evicting)

    if case == "nothing stays":
        before(rewriting.Rewriting, "layer", model)
        before(rewriting.Rewriting, "finish", model)
    elif case == "two stages":
        one_read.hindrance = lambda *_: one_read.NOT_STREAMED
        before(rewriting, "rewrite", model)
        before(verification, "verify", model)
        before(verification, "verify")  # the output
    evict(model)
    begin, start = counted(), time.perf_counter()
    done = pipeline.prune(
        str(model), output=output, demos=(str(demos),), keep=0.5, runner="stream", device="cpu"
    )
    read = counted() - begin
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return {
        "read_bytes": read,
        "ratio": round(read / size, 3),
        "kept_bytes": done.rewritten.bytes_after,
        "source_bytes": size,
        "seconds": round(time.perf_counter() - start, 1),
        "verified": done.verification.ok,
    }


def write_demos(path: Path, demos: int, tokens: int) -> None:
    draw = np.random.default_rng(1)
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(demos):
            ids = draw.integers(0, VOCABULARY, tokens).tolist()
            out.write(json.dumps({"input_ids": ids}) + "\n")


def compare(
    folder: Path, gigabytes: float, demos: int, tokens: int, group: float
) -> dict[str, Any]:
    """All cases on one checkpoint, each in a new process."""
    model, demo_file = folder / "model", folder / "demos.jsonl"
    model.mkdir()
    hidden, inner, experts = 2048, 1024, 64
    layers = max(2, round(gigabytes * 1e9 / (experts * 3 * hidden * inner * 2)))
    shape = (layers, experts, hidden, inner)
    tensors, config = qwen3_moe(*shape), qwen3_moe_config(*shape)
    write(model, tensors, config, shard_bytes=1_000_000_000, data=small_numbers())
    write_demos(demo_file, demos, tokens)
    facts: dict[str, Any] = {"layers": layers, "tokens": demos * tokens}
    for case in CASES:
        output = folder / "pruned"
        with control_group.limited(group) if case == "does not fit" else nullcontext() as small:
            command = [sys.executable, __file__, "--case", case]
            command += map(str, (model, demo_file, output, small or ""))
            ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            facts[case] = json.loads(ran.stdout)
            if small is not None:
                facts[case]["group"] = control_group.facts(small)
        print(f"{case}: {json.dumps(facts[case])}", file=sys.stderr, flush=True)
        shutil.rmtree(output)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gigabytes", type=float, default=3.0, help="size of the source")
    parser.add_argument("--demos", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each demonstration")
    parser.add_argument(
        "--group", type=float, default=1.25, help="GiB of memory of the case that does not fit"
    )
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; needs 1.6x the size"
    )
    parser.add_argument("--output", type=Path, default=None, help="the result, as JSON")
    parser.add_argument("--case", nargs=5, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        case, *paths, group = options.case
        if group:
            control_group.enter(Path(group))
        print(json.dumps(prune(case, *map(Path, paths))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        sizes = (options.gigabytes, options.demos, options.tokens, options.group)
        facts = compare(folder, *sizes)
        facts["machine"] = machine(folder)
    text = json.dumps(facts, indent=2) + "\n"
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
