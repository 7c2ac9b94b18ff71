"""What observing costs, as a ratio to a plain forward pass of the same model in the same run.

    python benchmarks/observing.py --rounds 9 --output benchmarks/results/observing.json
    python benchmarks/observing.py --size released --tokens 1024 --rounds 3
    python benchmarks/observing.py --size true --family gpt_oss --layers 1 --dtype float32
    python benchmarks/observing.py --device cuda --scale 4 --tokens 8192 --size released

"Plain" is transformers' default experts implementation over the demonstrations, one per batch.
"whole" is `observe_in_memory` over the same: records fetched, and what is done once, finding out
how each layer's experts reach the residual stream, included. "later" is a batch of a recorder that
knows. "dense" evaluates all experts on all tokens instead, as simple observers do; with the
experts' share s of the operations it cannot cost more than 1 + 7 s plain passes by operations
(32 experts, top-4), which stands beside it as its bound; for the MoE blocks alone that is 8 at
most, and all that observing adds is counted there.

On a CPU, times are CPU time of the process, one thread, since other programs may be running; on a
GPU wall time with the device synchronised. Rounds are interleaved; the median of their ratios
counts, and all of them stand beside it. While time is measured, freed memory stays with the
process: to take it from the kernel again, page by page, costs more than observing does, and when
that happens depends on what else lies in memory. Memory is measured apart, and given back at once.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch
import transformers
from observing_models import (
    EXPERTS,
    FAMILIES,
    SIZES,
    TOP_K,
    VOCABULARY,
    all_experts,
    expert_share,
    model_of,
    no_experts,
)
from torch import Tensor
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from easyep.artifacts import TokenSequence
from easyep.evaluation.engines.peak_memory import PeakMemory
from easyep.observation.decoder import decoder_layers
from easyep.observation.device_record import DeviceRecord
from easyep.observation.in_memory import observe_in_memory
from easyep.observation.learning import ENOUGH_TOKENS
from easyep.observation.recorder import Recorder
from easyep.observation.watchers import find_experts
from easyep.processor import processor


class Time(NamedTuple):
    """Seconds.

    Attributes:
        all: of the whole.
        blocks: of that in the MoE blocks: router, routed and shared experts.
    """

    all: float
    blocks: float


class Measured:
    """One model, run in several ways."""

    def __init__(self, family: str, dtype: torch.dtype, options: argparse.Namespace) -> None:
        self.family = family
        shape = {"layers": options.layers, "scale": options.scale}
        self.model = model_of(family, options.size, dtype, options.device, **shape)
        self.device = torch.device(options.device)
        generator = np.random.default_rng(0)
        self.demos = [
            TokenSequence(
                generator.integers(0, VOCABULARY, options.tokens),
                np.zeros(options.tokens, dtype=bool),
            )
            for _ in range(options.demos)
        ]
        self.batches = [
            torch.from_numpy(demo.input_ids)[None].to(options.device) for demo in self.demos
        ]
        self.decoder = self.model.get_decoder()
        layers = decoder_layers(self.decoder)
        self.records: list[DeviceRecord] = []
        self.recorder = Recorder(
            dict(enumerate(layers)), lambda index, record: self.records.append(record)
        )
        self._in_blocks = 0.0
        for layer in (layers[index] for index in self.recorder.moe_layers):
            for block in layer.children():
                if find_experts(block):
                    block.register_forward_pre_hook(self._enter, prepend=True)
                    block.register_forward_hook(self._leave)

    def _enter(self, *called: object) -> None:
        self._in_blocks -= self._clock()

    def _leave(self, *called: object) -> None:
        self._in_blocks += self._clock()

    def _clock(self) -> float:
        return time.process_time() if self.device.type == "cpu" else time.perf_counter()

    def timed(self, way: Callable[[], object]) -> Time:
        self._wait()
        self._in_blocks = 0.0
        start = self._clock()
        way()
        self._wait()
        return Time(self._clock() - start, self._in_blocks)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _forward(self, ids: Tensor) -> None:
        mask = torch.ones_like(ids)
        self.decoder(input_ids=ids, attention_mask=mask, use_cache=False)

    def plain(self) -> Time:
        return self.timed(lambda: [self._forward(ids) for ids in self.batches])

    def whole(self) -> Time:
        return self.timed(lambda: observe_in_memory(self.model, self.demos))

    def later(self) -> Time:
        with self.recorder.attached():
            self._record(0, ENOUGH_TOKENS, recorded=False)
            return self.timed(self._record_all)

    def dense(self) -> Time:
        """All experts on the tokens of one demonstration."""
        self.model.set_experts_implementation("all_experts")
        try:
            return self.timed(lambda: self._forward(self.batches[0]))
        finally:
            self.model.set_experts_implementation("grouped_mm")

    def _record(self, number: int, tokens: int | None = None, *, recorded: bool = True) -> None:
        ids = self.batches[number][:, :tokens]
        demo = self.demos[number]
        demo = TokenSequence(demo.input_ids[:tokens], demo.is_response[:tokens])
        with self.recorder.batch([number], [demo], 0, len(demo), recorded=recorded):
            self._forward(ids)

    def _record_all(self) -> None:
        waiting: list[DeviceRecord] = []
        for number in range(len(self.demos)):
            self._record(number)
            for record in waiting:
                record.fetch()
            waiting, self.records[:] = self.records[:], []
        for record in waiting:
            record.fetch()

    def peak(self, way: Callable[[], object]) -> float | None:
        """MB that one run of a way takes at the most beside the model; None where nobody says."""
        peak = PeakMemory(self.device)
        with peak.measured():
            way()
        return None if peak.growth is None else peak.growth / 1e6


@torch.inference_mode()
def measure(family: str, dtype: torch.dtype, options: argparse.Namespace) -> dict[str, Any]:
    _keep_freed_memory(True)
    model = Measured(family, dtype, options)
    ways = {"plain": model.plain, "whole": model.whole, "later": model.later}
    for way in ways.values():
        way()
    rounds = [{name: way() for name, way in ways.items()} for _ in range(options.rounds)]
    plain = _median([each["plain"] for each in rounds])
    found: dict[str, Any] = {
        "family": family,
        "dtype": str(dtype).removeprefix("torch."),
        "plain_ms_per_demo": round(1e3 * plain.all / options.demos, 2),
    }
    for name in ("whole", "later"):
        ratios = [each[name].all / each["plain"].all for each in rounds]
        found[name] = round(statistics.median(ratios), 3)
        found[f"{name}_rounds"] = [round(ratio, 3) for ratio in sorted(ratios)]
    if not options.no_dense:
        added = statistics.median([each["later"].all - each["plain"].all for each in rounds])
        found |= _dense(model, options, plain, added)
    return found | _memory(model)


def _median(times: Sequence[Time]) -> Time:
    return Time(*(statistics.median(column) for column in zip(*times, strict=True)))


def _memory(model: Measured) -> dict[str, Any]:
    """What a plain pass takes beside the model, and what observing takes above it."""
    _keep_freed_memory(False)
    model.plain()
    plain, later, whole = (model.peak(way) for way in (model.plain, model.later, model.whole))
    if plain is None or later is None or whole is None:
        return {}
    return {
        "plain_mb": round(plain, 1),
        "later_mb_above_plain": round(later - plain, 1),
        "whole_mb_above_plain": round(whole - plain, 1),
    }


def _dense(
    model: Measured, options: argparse.Namespace, plain: Time, added: float
) -> dict[str, Any]:
    """All experts on all tokens, beside observing, whose extra seconds are `added`."""
    model.dense()
    found = _median([model.dense() for _ in range(options.dense_rounds)])
    dense, blocks = found.all * options.demos, found.blocks * options.demos
    share = expert_share(model.family, options.size, options.tokens, options.layers)
    beside = {
        "expert_share": round(share, 3),
        "dense": round(dense / plain.all, 2),
        "dense_bound": round(1 + share * (EXPERTS / TOP_K - 1), 2),
        "dense_over_observing": round(dense / (plain.all + added), 2),
    }
    if model.device.type == "cpu":  # else the clock runs on while the device computes
        beside["dense_over_observing_blocks"] = round(blocks / (plain.blocks + added), 2)
    return beside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=512, help="of each demonstration")
    parser.add_argument("--demos", type=int, default=4)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--scale", type=int, default=1, help="times as wide")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16"])
    parser.add_argument("--family", action="append", choices=FAMILIES)
    parser.add_argument("--no-dense", action="store_true")
    parser.add_argument("--dense-rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    ALL_EXPERTS_FUNCTIONS.register("all_experts", all_experts)
    ALL_EXPERTS_FUNCTIONS.register("no_experts", no_experts)
    found = []
    for dtype in options.dtype or ("float32", "bfloat16"):
        for family in options.family or FAMILIES:
            found.append(measure(family, getattr(torch, dtype), options))
            print(json.dumps(found[-1]), flush=True)
            if options.output is not None:  # bfloat16 can take long: what is known is kept
                options.output.parent.mkdir(parents=True, exist_ok=True)
                options.output.write_text(json.dumps(_report(options, found), indent=2) + "\n")


def _keep_freed_memory(keep: bool) -> None:
    """Whether the C library keeps what is freed for later, or gives all of it back at once."""
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1 if keep else 0)
        mallopt(_M_MMAP_MAX, 0 if keep else 2**16)
        mallopt(_M_MMAP_THRESHOLD, 2**17)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # <malloc.h> of glibc


def _report(options: argparse.Namespace, found: list[dict[str, Any]]) -> dict[str, Any]:
    chosen = ("size", "layers", "scale", "tokens", "demos", "rounds")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": _device(options.device),
        "threads": 1,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **{name: getattr(options, name) for name in chosen},
        "load_average": os.getloadavg()[0],
        "results": found,
    }


def _device(name: str) -> str:
    if name.startswith("cuda"):
        return torch.cuda.get_device_name(name)
    return processor()


if __name__ == "__main__":
    main()
