"""Trains the demo model from scratch: `python -m easyep.demo_model.training --output DIR`.

Two data-parallel processes of one thread each (gloo), which on two cores is faster than one process
with two threads. The run goes on from its last checkpoint when started again.
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
from easyep.demo_model.architecture import Network, configuration
from easyep.demo_model.balance import FROZEN_SHARE, Balance
from easyep.demo_model.batches import Batch
from easyep.demo_model.export import export
from easyep.demo_model.optimisation import FlatAdamW, learning_rate

MTP_WEIGHT = 0.3
#: The MTP layer joins here: before, the states that it reads change too fast to be worth it.
MTP_START_SHARE = 0.5
CHECKPOINT = "latest.pt"


@dataclass(frozen=True)
class Run:
    """One training run."""

    output: Path
    checkpoints: Path
    steps: int = 3600
    seed: int = 0
    processes: int = 2
    checkpoint_seconds: float = 300.0
    log_steps: int = 20


def losses(network: Network, batch: Batch, with_mtp: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss to descend, and the next-token losses [R, T-1] without weights."""
    states = network.states(batch.ids, batch.positions, batch.segments)
    head = network.main.lm_head
    # A token is predicted only by a token of the same item.
    inside = (batch.segments[:, :-1] == batch.segments[:, 1:]) & (batch.segments[:, 1:] >= 0)
    weights = batch.weights[:, 1:] * inside
    each = cross_entropy(head(states[:, :-1]).mT, batch.ids[:, 1:], reduction="none")
    loss = (each * weights).sum() / weights.sum()
    if with_mtp:
        ahead = network.mtp_states(states, batch.ids, batch.positions, batch.segments)
        logits = head(ahead[:, :-1])
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
        for row, name in enumerate(batch.texts):
            sums = self.sums.setdefault(name, [0.0, 0.0])
            sums[0] += float((each[row] * answers[row]).sum())
            sums[1] += float(answers[row].sum())

    def line(self, step: int, norm: float, balance: Balance) -> str:
        """What happened since the last line."""
        seconds = time.monotonic() - self.begun
        done = step + 1 - self.first
        rate = done * self.run.processes * sum(batches.ROWS.values()) * batches.ROW_LENGTH / seconds
        parts = " ".join(f"{name} {a / max(b, 1):.3f}" for name, (a, b) in self.sums.items())
        loads = " ".join(f"{value:.2f}" for value in balance.imbalance())
        self.sums, self.begun, self.first = {}, time.monotonic(), step + 1
        return f"step {step + 1} | {parts} | norm {norm:.2f} | max/mean {loads} | {rate:.0f} tok/s"


def work(process: int, run: Run, store: str) -> None:
    """One of the data-parallel processes."""
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=process, world_size=run.processes
    )
    bpe = tokenizer.load(run.output)
    network = Network(configuration())
    optimiser, balance = FlatAdamW(network), Balance(network)
    saved = run.checkpoints / CHECKPOINT
    start, elapsed = _resume(saved, optimiser, balance)
    log, last_save, begun = Log(run, start), time.monotonic(), time.monotonic() - elapsed
    for step in range(start, run.steps):
        batch = batches.batch(bpe, run.seed, process, step)
        balance.clear(batch.segments >= 0)
        loss, each = losses(network, batch, step >= MTP_START_SHARE * run.steps)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.gradient /= run.processes
        dist.all_reduce(optimiser.gradient)
        dist.all_reduce(balance.loads)
        norm = optimiser.step(learning_rate(step, run.steps))
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
        export(network, run.output)
        _write_report(run, seconds)
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
    state: dict[str, Any] = torch.load(path, weights_only=True)
    optimiser.restore(state["optimiser"])
    for router, bias in zip(balance.routers, state["biases"], strict=True):
        router.e_score_correction_bias.copy_(bias)
    return state["step"], state["seconds"]


def _write_report(run: Run, seconds: float) -> None:
    import transformers

    positions = run.steps * run.processes * sum(batches.ROWS.values()) * batches.ROW_LENGTH
    report = {
        "seed": run.seed,
        "steps": run.steps,
        "processes": run.processes,
        "token_positions": positions,
        "wall_seconds": round(seconds),
        "hardware": f"{os.cpu_count()} x86-64 cores, one thread per process, float32, no GPU",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "rows_per_batch": dict(batches.ROWS),
        "mtp_start_share": MTP_START_SHARE,
        "balancing": "correction bias only; no auxiliary loss",
    }
    text = json.dumps(report, indent=2) + "\n"
    REPORT.write_text(text, encoding="utf-8")


def main() -> None:
    """Parses the arguments, trains the tokenizer if need be, starts the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_DIRECTORY)
    parser.add_argument("--checkpoints", type=Path, default=Path("out/demo-training"))
    parser.add_argument("--steps", type=int, default=Run.steps)
    parser.add_argument("--seed", type=int, default=Run.seed)
    run = Run(**vars(parser.parse_args()))
    if not (run.checkpoints / CHECKPOINT).exists():
        tokenizer.save(tokenizer.train(run.seed), run.output)
    # glibc hands large blocks back to the system after each use; keeping them saves a tenth.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "4000000000")
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "8000000000")
    print({key: str(value) for key, value in asdict(run).items()}, flush=True)
    with tempfile.TemporaryDirectory() as directory:
        store = str(Path(directory) / "store")
        spawn(work, args=(run, store), nprocs=run.processes)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
