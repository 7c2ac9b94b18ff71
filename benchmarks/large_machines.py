"""What observing the largest models takes on 1, 8 and 64 GPUs, computed; nothing is run.

    python benchmarks/large_machines.py benchmarks/results/2026-11-22-streaming.json

Sizes follow from the published configurations. Times of streaming come from the seconds that one
layer of DeepSeek-V3's dimensions took in a measured run; times of the network from the rates that
its maker states, which are not measured: a bound from below.
"""

import json
import sys
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

DEMOS, TOKENS = 25, 512  # of each, as in the measured run
TOP_K = 8
FOR_WEIGHTS = 0.85  # of a GPU's memory, for weights: easyep/placing.py
GB = 1e9

# Bytes a second that a GPU receives, as NVIDIA states them for H100 and H200: NVLink in a node of 8
# (900 GB/s both ways), and one 400 Gbit/s adapter per GPU between nodes.
IN_NODE, BETWEEN_NODES = 450e9, 50e9
GPUS = {"H100": 80e9, "H200": 141e9}


@dataclass(frozen=True)
class Model:
    """Dimensions of a model of DeepSeek-V3's architecture; numbers of weights follow from them."""

    name: str
    experts: int
    dense_layers: int
    heads: int
    vocabulary: int
    layers: int = 61
    hidden: int = 7168
    inner: int = 2048
    dense_inner: int = 18432

    @property
    def attention(self) -> int:
        """Weights of one layer's attention: low-rank queries (1536), keys and values (512 + 64)."""
        queries = self.hidden * 1536 + 1536 * self.heads * (128 + 64)
        keys = self.hidden * (512 + 64) + 512 * self.heads * (128 + 128)
        return queries + keys + self.heads * 128 * self.hidden

    @property
    def moe_layer(self) -> int:
        """Weights of one MoE layer, its shared expert included."""
        expert = 3 * self.hidden * self.inner
        return self.attention + (self.experts + 1) * expert + self.experts * self.hidden

    @property
    def weights(self) -> int:
        """Weights of the model, without multi-token prediction."""
        dense = self.attention + 3 * self.hidden * self.dense_inner
        inside = self.dense_layers * dense + (self.layers - self.dense_layers) * self.moe_layer
        return inside + 2 * self.vocabulary * self.hidden


MODELS = (
    Model("DeepSeek-R1", experts=256, dense_layers=3, heads=128, vocabulary=129_280),
    Model("Kimi-K2", experts=384, dense_layers=1, heads=64, vocabulary=163_840),
)


def streaming(model: Model, measured: list[dict[str, Any]]) -> tuple[float, float]:
    """Seconds that observing takes on one H100, and GB of main memory.

    From two measured runs of one and two MoE layers of DeepSeek-V3's dimensions: each further
    layer takes the difference, in proportion to its weights.
    """
    one, two = (
        next(r for r in measured if r["device"] == "cuda" and r["moe_layers"] == layers)
        for layers in (1, 2)
    )
    assert one["demos"] == two["demos"] == DEMOS
    first, second = (run["seconds"]["observe"] for run in (one, two))
    each = (second - first) * model.moe_layer / MODELS[0].moe_layer
    return first + each * (model.layers - model.dense_layers - 1), two["peak_rss_gb"]


def streamed_together(model: Model, processes: int) -> float:
    """Bytes that each of several streaming processes receives.

    The others' parts of all weights but routed experts, in 8 bits; and in each MoE layer its share
    of adding up float32 sums [T, H] and norms [T, k], as a ring does, and ids and weights [T, k].
    """
    layers, tokens = model.layers - model.dense_layers, DEMOS * TOKENS
    dense = model.weights - layers * model.experts * 3 * model.hidden * model.inner
    added = tokens * (model.hidden + TOP_K) * 4
    others = (processes - 1) / processes
    return others * dense + layers * (2 * others * added + tokens * TOP_K * (8 + 4))


def divided(model: Model, gpus: int) -> dict[str, float]:
    """DeepSpeed in BF16: bytes and seconds for each GPU."""
    total, steps = 2 * model.weights, ceil(DEMOS / gpus) + 1  # one more to learn the layers' ways
    received = total * (gpus - 1) / gpus * steps
    return {
        "share": total / gpus,
        "layer": 2 * model.moe_layer,
        "received": received,
        "seconds": received / (IN_NODE if gpus <= 8 else BETWEEN_NODES),
        "loading": total / (IN_NODE if gpus <= 8 else BETWEEN_NODES),
    }


def table(measured: list[dict[str, Any]]) -> str:
    """The table of docs/large-machines.md."""
    lines = [
        "| model | GPUs | way | read from disk | memory of each GPU | received by each | time |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in MODELS:
        seconds, memory = streaming(model, measured)
        lines.append(
            f"| {model.name} | 1 | stream | {model.weights / GB:,.0f} GB once | "
            f"{memory:.1f} GB of main memory (measured) | 0 | {seconds / 60:.0f} min |"
        )
        lines.append(
            f"| {model.name} | 8 | stream | {model.weights / 8 / GB:,.0f} GB by each, "
            f"{model.weights / GB:,.0f} GB in all | as one process, each | "
            f"{streamed_together(model, 8) / GB:,.0f} GB | not measured |"
        )
        for gpus in (8, 64):
            needs = divided(model, gpus)
            held = needs["share"] + needs["layer"]
            fits = [name for name, size in GPUS.items() if held <= FOR_WEIGHTS * size]
            place = f"fits {' and '.join(fits)}" if fits else "only with parameters offloaded"
            lines.append(
                f"| {model.name} | {gpus} | deepspeed | {model.weights / GB:,.0f} GB once, by "
                f"rank 0 | {needs['share'] / GB:.0f} + {needs['layer'] / GB:.0f} GB: {place} | "
                f"{(needs['received'] + 2 * model.weights) / GB:,.0f} GB | at least "
                f"{needs['seconds'] + needs['loading']:.0f} s on the network |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
