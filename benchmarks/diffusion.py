"""Bounds on decoding one token after the other, block by block, and of whole sequences.

    python benchmarks/diffusion.py --output RESULT.json --figure docs/diffusion-roofline.png

The model is LLaDA2.0-mini by its configuration (16 billion weights, 8 of 256 experts), full and
with half of its experts, the machine one H100, prompts of 1,024 tokens, answers of 512. Nothing is
measured. The autoregressive line is a model of the same shape.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from easyep.evaluation.roofline.diffusion import Decoding, generate
from easyep.evaluation.roofline.machine import machine
from easyep.evaluation.roofline.reading import read_decoder
from easyep.evaluation.roofline.traffic import uniform

CONFIG = Path(__file__).parent / "configs" / "llada2-mini.json"
WAYS = {
    "one token at a time": Decoding(1),
    "blocks of 32, 2 tokens a pass": Decoding(32, 2),
    "blocks of 32, 8 tokens a pass": Decoding(32, 8),
    "whole sequence, 2 tokens a pass": Decoding(0, 2),
}
BATCHES = [1 << power for power in range(11)]
LENGTHS = (1024, 512)
# Okabe and Ito's colours, told apart by everybody.
COLOURS = ("#0072B2", "#D55E00", "#E69F00", "#009E73")


def lines(name: str) -> list[dict[str, Any]]:
    full = read_decoder(json.loads(CONFIG.read_text()), name="LLaDA2.0-mini")
    found = []
    for keep in (full.experts, full.experts // 2):
        decoder, routes = full.pruned(keep), uniform(full.moe_layers, keep, full.top_k)
        for way, decoding in WAYS.items():
            made = [
                generate(decoder, machine(name), routes, decoding, batch, *LENGTHS)
                for batch in BATCHES
            ]
            found.append(
                {
                    "experts": keep,
                    "way": way,
                    "tokens_per_second": [each.throughput for each in made],
                    "bound": [each.step.bound for each in made],
                }
            )
    return found


def draw(found: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 4.8), layout="constrained")
    colours = dict(zip(WAYS, COLOURS, strict=True))
    most = max(each["experts"] for each in found)
    for each in found:
        whole = each["experts"] == most
        axes.plot(
            BATCHES,
            each["tokens_per_second"],
            color=colours[each["way"]],
            linestyle="-" if whole else "--",
            marker="o" if whole else None,
            markersize=4,
            label=each["way"] if whole else None,
        )
    axes.plot([], [], color="grey", linestyle="--", label="half of the experts")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="sequences at a time",
        ylabel="tokens per second, at most",
        title="LLaDA2.0-mini's shape on one H100: upper bounds by the roofline",
    )
    axes.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machine", default="h100")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    found = lines(options.machine)
    for each in found:
        print(each["experts"], each["way"], [round(x) for x in each["tokens_per_second"]])
    if options.output is not None:
        report = {
            "machine": machine(options.machine).to_json(),
            "lengths": LENGTHS,
            "batches": BATCHES,
            "lines": found,
        }
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    if options.figure is not None:
        draw(found, options.figure)


if __name__ == "__main__":
    main()
