"""Trains the demo model from scratch: `python -m easyep.demo_model.training --output DIR`.

On a CPU two data-parallel processes of one thread each (gloo), which on two cores is faster than
one process with two threads. On a GPU (`--device cuda`) one process in BF16 that takes the text of
all streams at once, made ahead by other processes. The run goes on from its last checkpoint when
started again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import cross_entropy

from easyep.demo_model import MODEL_DIRECTORY, REPORT, batches, tokenizer
from easyep.demo_model.architecture import SIZES, Network, configuration
from easyep.demo_model.balance import FROZEN_SHARE, Balance
from easyep.demo_model.batches import Batch
from easyep.demo_model.export import export
from easyep.demo_model.feeding import feed
from easyep.demo_model.optimisation import FlatAdamW, learning_rate

MTP_WEIGHT = 0.3
#: The MTP layer joins here: before, the states that it reads change too fast to be worth it.
MTP_START_SHARE = 0.5
CHECKPOINT = "latest.pt"


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        output: where the model is written.
        checkpoints: where the state is kept to go on from.
        size: a name of `SIZES`.
        device: ``"cpu"``, or a GPU, which takes all streams in one process.
        steps: optimiser steps.
        seed: of the weights and of the text.
        streams: each adds one batch of text to every step.
        workers: processes that make batches ahead.
        experts: as in `Network`.
    """

    output: Path
    checkpoints: Path
    size: str = "demo"
    device: str = "cpu"
    steps: int = 3600
    seed: int = 0
    streams: int = 2
    workers: int = 0
    experts: str = "grouped_mm"
    checkpoint_seconds: float = 300.0
    log_steps: int = 20

    @property
    def processes(self) -> int:
        """Processes that compute."""
        return self.streams if self.device == "cpu" else 1

    @property
    def positions(self) -> int:
        """Token positions of one step."""
        return self.streams * sum(batches.ROWS.values()) * batches.ROW_LENGTH


def losses(network: Network, batch: Batch, with_mtp: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss to descend, and the next-token losses [R, T-1] without weights."""
    states = network.states(batch.ids, batch.positions, batch.segments)
    head = network.main.lm_head
    # A token is predicted only by a token of the same item.
    inside = (batch.segments[:, :-1] == batch.segments[:, 1:]) & (batch.segments[:, 1:] >= 0)
    weights = batch.weights[:, 1:] * inside
    logits = head(states[:, :-1]).float()
    each = cross_entropy(logits.mT, batch.ids[:, 1:], reduction="none")
    loss = (each * weights).sum() / weights.sum()
    if with_mtp:
        ahead = network.mtp_states(states, batch.ids, batch.positions, batch.segments)
        logits = head(ahead[:, :-1]).float()
        far = cross_entropy(logits.mT, batch.ids[:, 2:], reduction="none")
        far_weights = weights[:, 1:] * inside[:, :-1]
        loss = loss + MTP_WEIGHT * (far * far_weights).sum() / far_weights.sum()
    return loss, each.detach() * inside


class Log:
    """Means over some steps, of the first process, as one line of text."""

    def __init__(self, run: Run, start: int) -> None:
        self.run, self.begun, self.first = run, time.monotonic(), start
        self.sums: dict[str, list[float]] = {}

    def add(self, batch: Batch, each: torch.Tensor) -> None:
        """Notes the mean answer loss of each text."""
        answers = batch.weights[:, 1:] >= batches.TEXT_WEIGHT
        found = torch.stack([(each * answers).sum(dim=1), answers.sum(dim=1)], dim=1).tolist()
        for name, (total, count) in zip(batch.texts, found, strict=True):
            sums = self.sums.setdefault(name, [0.0, 0.0])
            sums[0] += total
            sums[1] += count

    def line(self, step: int, norm: float, balance: Balance) -> str:
        """What happened since the last line."""
        seconds = time.monotonic() - self.begun
        done = step + 1 - self.first
        rate = done * self.run.positions / seconds
        parts = " ".join(f"{name} {a / max(b, 1):.3f}" for name, (a, b) in self.sums.items())
        loads = " ".join(f"{value:.2f}" for value in balance.imbalance())
        self.sums, self.begun, self.first = {}, time.monotonic(), step + 1
        return f"step {step + 1} | {parts} | norm {norm:.2f} | max/mean {loads} | {rate:.0f} tok/s"


def work(process: int, run: Run, store: str) -> None:
    """One of the data-parallel processes."""
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    if run.processes > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=process, world_size=run.processes
        )
    device = torch.device(run.device)
    network = Network(configuration(run.size), run.experts).to(device)
    arithmetic = torch.float32 if device.type == "cpu" else torch.bfloat16
    optimiser, balance = FlatAdamW(network, arithmetic), Balance(network)
    saved = run.checkpoints / CHECKPOINT
    start, elapsed = _resume(saved, optimiser, balance)
    log, last_save, begun = Log(run, start), time.monotonic(), time.monotonic() - elapsed
    peak = SIZES[run.size].peak_rate
    streams = range(process, run.streams, run.processes)
    text = feed(run.output, run.seed, streams, range(start, run.steps), run.workers)
    for step, made in enumerate(text, start):
        batch = made.to(device)
        balance.clear(batch.segments >= 0)
        loss, each = losses(network, batch, step >= MTP_START_SHARE * run.steps)
        loss.backward()  # type: ignore[no-untyped-call]
        if run.processes > 1:
            optimiser.gradient /= run.processes
            dist.all_reduce(optimiser.gradient)
            dist.all_reduce(balance.loads)
        norm = optimiser.step(learning_rate(step, run.steps, peak))
        if step < (1 - FROZEN_SHARE) * run.steps:
            balance.move()
        if process != 0:
            continue
        log.add(batch, each)
        if (step + 1) % run.log_steps == 0:
            print(log.line(step, norm, balance), flush=True)
        if time.monotonic() - last_save > run.checkpoint_seconds:
            _save(saved, step + 1, time.monotonic() - begun, optimiser, balance)
            last_save = time.monotonic()
    if process == 0:
        seconds = time.monotonic() - begun
        _save(saved, run.steps, seconds, optimiser, balance)
        export(network, run.output, run.size)
        _write_report(run, seconds, sum(p.numel() for p in network.parameters()))
    if run.processes > 1:
        dist.destroy_process_group()


def _save(path: Path, step: int, seconds: float, optimiser: FlatAdamW, balance: Balance) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    biases = [router.e_score_correction_bias for router in balance.routers]
    state = {"step": step, "seconds": seconds, "optimiser": optimiser.state(), "biases": biases}
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    temporary.replace(path)


def _resume(path: Path, optimiser: FlatAdamW, balance: Balance) -> tuple[int, float]:
    """The next step and the seconds already spent."""
    if not path.exists():
        return 0, 0.0
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    optimiser.restore(state["optimiser"])
    for router, bias in zip(balance.routers, state["biases"], strict=True):
        router.e_score_correction_bias.copy_(bias)
    return state["step"], state["seconds"]


def _write_report(run: Run, seconds: float, parameters: int) -> None:
    """How it was trained: for the shipped model beside the package, else with the checkpoints."""
    import transformers

    on_cpu = run.device == "cpu"
    hardware = (
        f"{os.cpu_count()} x86-64 cores, one thread per process, float32, no GPU"
        if on_cpu
        else f"{torch.cuda.get_device_name(run.device)}, bfloat16, float32 masters"
    )
    report = {
        "size": run.size,
        "parameters": parameters,
        "seed": run.seed,
        "steps": run.steps,
        "streams": run.streams,
        "processes": run.processes,
        "token_positions": run.steps * run.positions,
        "wall_seconds": round(seconds),
        "hardware": hardware,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "rows_per_batch": dict(batches.ROWS),
        "mtp_start_share": MTP_START_SHARE,
        "balancing": "correction bias only; no auxiliary loss",
    }
    text = json.dumps(report, indent=2) + "\n"
    path = REPORT if run.output == MODEL_DIRECTORY else run.checkpoints / REPORT.name
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Parses the arguments, trains the tokenizer if need be, starts the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_DIRECTORY)
    parser.add_argument("--checkpoints", type=Path, default=Path("out/demo-training"))
    parser.add_argument("--size", choices=SIZES, default=Run.size)
    parser.add_argument("--device", default=Run.device, help="cpu or cuda")
    parser.add_argument("--steps", type=int, default=Run.steps)
    parser.add_argument("--seed", type=int, default=Run.seed)
    parser.add_argument("--streams", type=int, default=Run.streams, help="batches per step")
    parser.add_argument("--workers", type=int, default=Run.workers, help="that make batches ahead")
    parser.add_argument("--experts", choices=["grouped_mm", "eager"], default=Run.experts)
    run = Run(**vars(parser.parse_args()))
    if not (run.checkpoints / CHECKPOINT).exists():
        tokenizer.save(tokenizer.train(run.seed), run.output)
    # glibc hands large blocks back to the system after each use; keeping them saves a tenth.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "4000000000")
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "8000000000")
    print({key: str(value) for key, value in asdict(run).items()}, flush=True)
    if run.processes == 1:
        work(0, run, "")
        return
    with tempfile.TemporaryDirectory() as directory:
        store = str(Path(directory) / "store")
        spawn(work, args=(run, store), nprocs=run.processes)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
