"""What observing costs, as a ratio to a plain forward pass of the same model in the same run.

    python benchmarks/observing.py --rounds 9 --output benchmarks/results/observing.json
    python benchmarks/observing.py --size released --tokens 1024 --rounds 3
    python benchmarks/observing.py --device cuda --scale 4 --tokens 8192 --size released

"Plain" is transformers' default experts implementation over the demonstrations, one per batch.
"whole" is `observe_in_memory` over the same: records fetched, and what is done once, finding out
how each layer's experts reach the residual stream, included. "later" is a batch of a recorder that
knows. "dense" evaluates all experts on all tokens instead, as simple observers do; with the
experts' share s of the operations it cannot cost more than 1 + 7 s plain passes by operations
(32 experts, top-4), which stands beside it as its bound.

On a CPU, times are CPU time of the process, one thread, since other programs may be running; on a
GPU wall time with the device synchronised. Rounds are interleaved; the least of each way counts,
and the spread of the ratio from round to round stands beside it.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch
import transformers
from observing_models import EXPERTS, FAMILIES, SIZES, VOCABULARY, expert_share, model_of
from torch import Tensor
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from easyep.artifacts import TokenSequence
from easyep.observation.decoder import decoder_layers
from easyep.observation.device_record import DeviceRecord
from easyep.observation.in_memory import observe_in_memory
from easyep.observation.recorder import Recorder


def all_experts(experts: Any, hidden: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Every expert on every token, as the simplest observer would."""
    gates = hidden.new_zeros(len(hidden), EXPERTS, dtype=weights.dtype).scatter_(1, ids, weights)
    out = torch.zeros_like(hidden)
    for expert in range(EXPERTS):
        up, down = experts.gate_up_proj[expert], experts.down_proj[expert]
        up, down = (up, down) if experts.is_transposed else (up.T, down.T)
        bias: Any = (0.0, 0.0)
        if experts.has_bias:
            bias = experts.gate_up_proj_bias[expert], experts.down_proj_bias[expert]
        output = experts._apply_gate(hidden @ up + bias[0]) @ down + bias[1]
        out += (output * gates[:, expert, None]).to(out.dtype)
    return out


def no_experts(experts: Any, hidden: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    return torch.zeros_like(hidden)


class Measured:
    """One model, run in several ways."""

    def __init__(self, family: str, dtype: torch.dtype, options: argparse.Namespace) -> None:
        self.model = model_of(family, options.size, dtype, options.device, options.scale)
        self.cuda = options.device.startswith("cuda")
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
        self.share = expert_share(self.model, self.batches[0])
        self.decoder = self.model.get_decoder()
        self.records: list[DeviceRecord] = []
        self.recorder = Recorder(
            dict(enumerate(decoder_layers(self.decoder))),
            lambda index, record: self.records.append(record),
        )

    def timed(self, way: Callable[[], object]) -> float:
        """Seconds."""
        clock = time.perf_counter if self.cuda else time.process_time
        self._wait()
        start = clock()
        way()
        self._wait()
        return clock() - start

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def _forward(self, ids: Tensor) -> None:
        mask = torch.ones_like(ids)
        self.decoder(input_ids=ids, attention_mask=mask, use_cache=False)

    def plain(self) -> float:
        return self.timed(lambda: [self._forward(ids) for ids in self.batches])

    def whole(self) -> float:
        return self.timed(lambda: observe_in_memory(self.model, self.demos))

    def later(self) -> float:
        with self.recorder.attached():
            self._record(0, recorded=False)
            return self.timed(self._record_all)

    def dense(self) -> float:
        """All experts on the tokens of one demonstration."""
        self.model.set_experts_implementation("all_experts")
        try:
            return self.timed(lambda: self._forward(self.batches[0]))
        finally:
            self.model.set_experts_implementation("grouped_mm")

    def _record(self, number: int, *, recorded: bool) -> None:
        demo = [self.demos[number]]
        with self.recorder.batch([number], demo, 0, len(demo[0]), recorded=recorded):
            self._forward(self.batches[number])

    def _record_all(self) -> None:
        waiting: list[DeviceRecord] = []
        for number in range(len(self.demos)):
            self._record(number, recorded=True)
            for record in waiting:
                record.fetch()
            waiting, self.records[:] = self.records[:], []
        for record in waiting:
            record.fetch()

    def peak(self, way: Callable[[], object]) -> float:
        """MB of device memory at the most, in one run of a way; 0 where it is not known."""
        if not self.cuda:
            return 0.0
        torch.cuda.reset_peak_memory_stats()
        way()
        return torch.cuda.max_memory_allocated() / 1e6


@torch.inference_mode()
def measure(family: str, dtype: torch.dtype, options: argparse.Namespace) -> dict[str, Any]:
    model = Measured(family, dtype, options)
    ways = {"plain": model.plain, "whole": model.whole, "later": model.later}
    for way in ways.values():
        way()
    rounds = [{name: way() for name, way in ways.items()} for _ in range(options.rounds)]
    least = {name: min(each[name] for each in rounds) for name in ways}
    found = {
        "family": family,
        "dtype": str(dtype).removeprefix("torch."),
        "plain_ms_per_demo": round(1e3 * least["plain"] / options.demos, 2),
        "whole": round(least["whole"] / least["plain"], 3),
        "later": round(least["later"] / least["plain"], 3),
        "later_quartiles": [
            round(q, 3)
            for q in statistics.quantiles((each["later"] / each["plain"] for each in rounds), n=4)
        ]
        if len(rounds) > 1
        else None,
        "expert_share": round(model.share, 3),
    }
    if model.cuda:
        found["mb_above_plain"] = round(model.peak(model.later) - model.peak(model.plain), 1)
    if not options.no_dense:
        model.dense()
        dense = min(model.dense() for _ in range(min(options.rounds, 3)))
        found["dense"] = round(dense * options.demos / least["plain"], 2)
        found["dense_bound"] = round(1 + model.share * (EXPERTS / 4 - 1), 2)
        found["dense_over_observing"] = round(dense * options.demos / least["later"], 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=512, help="of each demonstration")
    parser.add_argument("--demos", type=int, default=4)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--scale", type=int, default=1, help="times as wide")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16"])
    parser.add_argument("--family", action="append", choices=FAMILIES)
    parser.add_argument("--no-dense", action="store_true")
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


def _report(options: argparse.Namespace, found: list[dict[str, Any]]) -> dict[str, Any]:
    chosen = ("size", "scale", "tokens", "demos", "rounds")
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
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
