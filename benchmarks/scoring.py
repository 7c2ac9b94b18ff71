"""How long scoring takes, and how much memory, for a run with the dimensions of DeepSeek-V3.

    python benchmarks/scoring.py --folder /somewhere/with/2GB --output scoring.json

A synthetic record of 300,000 tokens: 58 layers, 256 experts, top-8, as many files as `easyep
observe` writes. Experts are popular to different degrees, other ones in each layer. Each criterion
is scored by a process of its own, `easyep score`: wall time, CPU time and the largest resident
memory. Criteria that look at weights have no record to read; for them the rate at which the
weights of one DeepSeek-V3 expert (three matrices of 7168 x 2048) are decoded and summed up, format
by format.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from easyep.architectures.router import Router
from easyep.artifacts import ModelIdentity, Observations, ObservedDemo, RoutedTokens
from easyep.checkpoint.copying import Sources
from easyep.checkpoint.decoding import Matrix
from easyep.checkpoint.headers import build_header, read_shard
from easyep.criteria import BUILT_IN, Layer, needs_record
from easyep.criteria.weights import Aimer
from easyep.processor import processor

ROUTER = Router(num_experts=256, top_k=8, n_group=8, topk_group=4, num_layers=61)
FIRST_LAYER = 3


class Layers(Mapping[int, RoutedTokens]):
    """Made-up records, one layer at a time."""

    def __init__(self, layers: int, tokens: int) -> None:
        self._numbers = range(FIRST_LAYER, FIRST_LAYER + layers)
        rng = np.random.default_rng(0)
        popularity = rng.normal(size=ROUTER.num_experts)
        ids = [
            np.argsort(-(popularity + rng.gumbel(size=(10_000, ROUTER.num_experts))), axis=1)
            for _ in range(max(1, tokens // 10_000))
        ]
        count, demos = sum(map(len, ids)), 25
        self._record = RoutedTokens(
            expert_ids=np.concatenate(ids)[:, : ROUTER.top_k].astype(np.int32),
            weights=rng.random((count, ROUTER.top_k), dtype=np.float32),
            output_norms=rng.lognormal(size=(count, ROUTER.top_k)).astype(np.float32),
            residual_shift=rng.random(count, dtype=np.float32),
            demo=(np.arange(count) * demos // count).astype(np.int32),
            is_response=rng.random(count) < 0.8,
        )

    def __getitem__(self, layer: int) -> RoutedTokens:
        names = np.random.default_rng(layer).permutation(ROUTER.num_experts).astype(np.int32)
        turned = {
            name: np.roll(getattr(self._record, name), 7919 * layer, axis=0)
            for name in ("weights", "output_norms", "residual_shift")
        }
        return replace(self._record, expert_ids=names[self._record.expert_ids], **turned)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def write(folder: Path, layers: int, tokens: int) -> None:
    """The synthetic run."""
    name = "synthetic"
    Observations(
        model=ModelIdentity(name, "deepseek_v3", "c" * 64, "t" * 64, "w" * 64),
        router=ROUTER,
        domain=name,
        demos=tuple(ObservedDemo(f"{i:064}", tokens // 25, tokens // 32) for i in range(25)),
        runner=name,
        dtype="float32",
        layers=Layers(layers, tokens),
    ).save(folder)


def measured(observations: Path, criterion: str, output: Path) -> dict[str, float]:
    """Seconds, CPU seconds and peak MB of scoring in a process of its own."""
    words = ["score", "--observations", observations, "--criterion", criterion, "--output", output]
    program = (
        "import resource, sys, time; from easyep.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally:\n"
        "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    print(used.ru_utime + used.ru_stime, used.ru_maxrss)"
    )
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    cpu, memory = done.stdout.split()
    return {
        "seconds": round(time.perf_counter() - begin, 1),
        "cpu_seconds": round(float(cpu), 1),
        "peak_rss_mb": round(int(memory) / 1024),
    }


def weights_per_second(folder: Path) -> dict[str, float]:
    """Million weights that AIMER takes in per CPU second, by format: the median of 5 experts."""
    rows, columns = 2048, 7168
    random = np.random.default_rng(0).integers(0, 120, rows * columns * 2, dtype=np.uint8)
    scale = np.ones((rows // 128, columns // 128), dtype=np.float32)
    forms: dict[str, dict[str, tuple[str, tuple[int, ...], bytes]]] = {
        "BF16": {"w": ("BF16", (rows, columns), random.tobytes())},
        "block FP8": {
            "w": ("F8_E4M3", (rows, columns), random[: rows * columns].tobytes()),
            "s": ("F32", scale.shape, scale.tobytes()),
        },
        "MXFP4": {
            "w": ("U8", (rows, columns // 32, 16), random[: rows * columns // 2].tobytes()),
            "s": ("U8", (rows, columns // 32), bytes([127]) * (rows * columns // 32)),
        },
    }
    rates = {}
    for form, tensors in forms.items():
        path = folder / "expert.safetensors"
        header = build_header([(n, d, s) for n, (d, s, _) in tensors.items()], {})
        path.write_bytes(header + b"".join(data for _, _, data in tensors.values()))
        shard = read_shard(path, path.name)
        found = {tensor.name: tensor for tensor in shard.tensors}
        matrix = Matrix(found["w"], found.get("s"))
        with Sources(folder, [shard]) as sources:
            seconds = []
            for _ in range(5):
                begin = time.process_time()
                Aimer().score_weights(Expert(matrix, sources), Layer(0, 1))
                seconds.append(time.process_time() - begin)
        rates[form] = round(3 * rows * columns / statistics.median(seconds) / 1e6, 1)
    return rates


class Expert:
    """A layer of one expert with three equal matrices."""

    def __init__(self, matrix: Matrix, sources: Sources) -> None:
        self._matrix, self._sources = matrix, sources

    def router(self) -> np.ndarray:
        raise NotImplementedError

    def expert(self, number: int) -> Iterator[np.ndarray]:
        for _ in range(3):
            yield from self._matrix.pieces(self._sources)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--layers", type=int, default=58)
    parser.add_argument("--folder", type=Path, default=None, help="where to write the record")
    parser.add_argument("--criteria", nargs="*", default=sorted(filter(needs_record, BUILT_IN)))
    parser.add_argument("--output", type=Path, default=None, help="a JSON file for the numbers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        observations = Path(folder) / "observations"
        # In a process of its own: Linux counts a parent's peak memory as its children's.
        writer = get_context("spawn").Process(
            target=write, args=(observations, options.layers, options.tokens)
        )
        writer.start()
        writer.join()
        if writer.exitcode:
            raise SystemExit("the record could not be written")
        facts: dict[str, Any] = {
            "tokens": options.tokens,
            "layers": options.layers,
            "experts": ROUTER.num_experts,
            "top_k": ROUTER.top_k,
            "record_mb": round(sum(f.stat().st_size for f in observations.iterdir()) / 1e6),
            "criteria": {},
        }
        for name in options.criteria:
            facts["criteria"][name] = measured(observations, name, Path(folder) / "scores.json")
            print(name, facts["criteria"][name], file=sys.stderr)
        facts["million_weights_per_cpu_second"] = weights_per_second(Path(folder))
    facts["machine"] = {
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    text = json.dumps(facts, indent=2)
    print(text)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
