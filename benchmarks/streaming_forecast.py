"""What streaming the whole of DeepSeek-R1 would take, computed from what was measured of a part.

    python benchmarks/streaming_forecast.py --reads 1.2 --dequantises 4 --computes 0.05
    python benchmarks/streaming_forecast.py --probe DIR    # a checkpoint of benchmarks/streaming.py
    python benchmarks/streaming_forecast.py --measured RESULT.json    # of benchmarks/streaming.py

Every number that it prints but the speeds is computed: bytes from the shapes of the released
checkpoint, seconds from bytes, operations and speeds, memory by `easyep.stream_plan`. Attention's
scores, which grow with the square of a demonstration's length, are in it as far as they are in the
measured run; writing only with `--measured`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from random_checkpoints import EXPERTS, HIDDEN, Form, deepseek_v3

from easyep.checkpoint.headers import bytes_of
from easyep.stream_plan import STATES, SUM
from easyep.stream_probe import Speeds

MOE_LAYERS, DENSE_LAYERS, TOP_K = 58, 3, 8


def of_layers(moe: int) -> dict[str, Form]:
    """The tensors of so many MoE layers and one dense layer, without what is in no layer."""
    return {name: form for name, form in deepseek_v3(moe)[1].items() if ".layers." in name}


def size(tensors: dict[str, Form]) -> int:
    """Bytes in the files."""
    return sum(bytes_of(*form) for form in tensors.values())


def numbers(tensors: dict[str, Form]) -> int:
    """Weights, scales not counted."""
    found = 0
    for name, (_, shape) in tensors.items():
        if not name.endswith("_scale_inv"):
            count = 1
            for each in shape:
                count *= each
            found += count
    return found


def forecast(tokens: int, speeds: Speeds) -> dict[str, Any]:
    """Bytes, operations and hours for all layers."""
    dense = of_layers(0)
    moe = {name: form for name, form in of_layers(1).items() if name not in dense}
    routed = {name: form for name, form in moe.items() if ".experts." in name}
    read = DENSE_LAYERS * size(dense) + MOE_LAYERS * size(moe)
    made = DENSE_LAYERS * numbers(dense) + MOE_LAYERS * numbers(moe)
    used = numbers(moe) - numbers(routed) * (1 - TOP_K / EXPERTS)
    operations = 2 * tokens * (DENSE_LAYERS * numbers(dense) + MOE_LAYERS * used)
    reading = read / speeds.reads
    dequantising = 2 * made / (speeds.dequantises or float("inf"))
    computing = operations / speeds.computes
    return {
        "tokens": tokens,
        "read_gb": round(read / 1e9, 1),
        "operations_1e15": round(operations / 1e15, 2),
        "held_while_waiting_gb": round(tokens * HIDDEN * (STATES * 2 + SUM) / 1e9, 1),
        "held_between_layers_gb": round(tokens * HIDDEN * 2 / 1e9, 1),
        "reading_hours": round(reading / 3600, 2),
        "dequantising_hours": round(dequantising / 3600, 2),
        "computing_hours": round(computing / 3600, 2),
        "hours": round(max(reading, dequantising + computing) / 3600, 2),
    }


def layer_by_layer(tokens: int, result: dict[str, Any], reads: float | None) -> dict[str, Any]:
    """Hours of each part for all layers, from the seconds of each part of a measured run.

    Args:
        tokens: to be run.
        result: of `benchmarks/streaming.py`, on a machine like the one asked about.
        reads: bytes per second of another disk; None = as measured.
    """
    ran, moe_run = result["demos"] * result["tokens_each"], result["moe_layers"]
    seconds = result["parts_of_observe"]
    dense = of_layers(0)
    moe = {name: form for name, form in of_layers(1).items() if name not in dense}
    routed = {name: form for name, form in moe.items() if ".experts." in name}
    used = numbers(moe) - numbers(routed)

    def times(per_dense: float, per_moe: float) -> float:
        """How much more all layers are than those that were run."""
        whole = DENSE_LAYERS * per_dense + MOE_LAYERS * per_moe
        return whole / (per_dense + moe_run * per_moe)

    disk = reads or result["read_from_disk_gb"] * 1e9 / seconds["reading"]
    read = DENSE_LAYERS * size(dense) + MOE_LAYERS * size(moe)
    dense_seconds = seconds["computing dense parts, attention included"]
    written = seconds["writing"] + result["seconds"]["rewrite"]
    found = {
        "reading": read / disk,
        "dequantising": seconds["dequantising"] * times(numbers(dense), numbers(moe)),
        "stacking experts": seconds["stacking experts"] * MOE_LAYERS / moe_run,
        "computing dense parts": dense_seconds * times(numbers(dense), used) * tokens / ran,
        "computing experts": seconds["computing experts"] * MOE_LAYERS / moe_run * tokens / ran,
        "writing": written * times(size(dense), size(moe)),
    }
    beside = found["reading"] + found["dequantising"]
    hours = {name: round(each / 3600, 2) for name, each in found.items()}
    return {
        "tokens": tokens,
        "reads_gb_s": round(disk / 1e9, 2),
        "hours_of_each_part": hours,
        "hours_if_all_overlaps": round(max(beside, sum(found.values()) - beside) / 3600, 2),
        "hours_if_nothing_does": round(sum(found.values()) / 3600, 2),
    }


def measured(model: Path) -> Speeds:
    """The speeds of this machine, with a checkpoint of that shape."""
    import numpy as np

    from easyep.artifacts import TokenSequence
    from easyep.recipe import Recipe
    from easyep.runs import Run
    from easyep.source import Source
    from easyep.stream_probe import probe

    sequence = TokenSequence(np.zeros(512, np.int64), np.zeros(512, bool))
    return probe(Run(Recipe(str(model)), Source.open(model), "none", (sequence,), (), "stream"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--reads", type=float, help="GB/s from the disk")
    parser.add_argument("--dequantises", type=float, help="GB/s of BF16 weights made")
    parser.add_argument("--computes", type=float, help="TFLOP/s in products")
    parser.add_argument("--probe", type=Path, metavar="DIR", help="measure them instead")
    parser.add_argument("--measured", type=Path, metavar="RESULT", help="take them from a run")
    arguments = parser.parse_args()
    if arguments.measured is not None:
        results = json.loads(arguments.measured.read_text())
        disk = arguments.reads * 1e9 if arguments.reads else None
        whole = [layer_by_layer(arguments.tokens, each, disk) for each in results]
        print(json.dumps(whole, indent=2))
        return
    given = (arguments.reads, arguments.dequantises, arguments.computes)
    if arguments.probe is None and None in given:
        parser.error("give --reads, --dequantises and --computes, or --probe or --measured")
    if arguments.probe is not None:
        speeds = measured(arguments.probe)
    else:
        reads, dequantises, computes = given
        speeds = Speeds(reads * 1e9, dequantises * 1e9, computes * 1e12)
    facts = {
        "reads_gb_s": round(speeds.reads / 1e9, 3),
        "dequantises_gb_s": round((speeds.dequantises or 0) / 1e9, 3),
        "computes_tflop_s": round(speeds.computes / 1e12, 4),
    }
    print(json.dumps({"speeds": facts, "computed": forecast(arguments.tokens, speeds)}, indent=2))


if __name__ == "__main__":
    main()
