"""What observing costs, as a ratio to a plain forward pass of the same model in the same run.

    python benchmarks/observing.py --rounds 9 --output benchmarks/results/observing.json

Models are random, of the real configuration classes: hidden 512, 32 experts of 256, top-4, three
layers, 512 tokens. "Plain" is transformers' default experts implementation. Rounds are
interleaved and counted in CPU time of the process, one thread, since other programs may be
running; wall time stands beside it. In its first batch the recorder also finds the way to the
residual stream, and runs each block once more without its routed experts; "later" is what further
batches cost. "dense" evaluates all experts on all tokens instead.
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
from torch import Tensor
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from easyep.artifacts import TokenSequence
from easyep.observation.in_memory import observe_in_memory

COMMON = {
    "vocab_size": 1000,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_experts_per_tok": 4,
}
MLA = {
    "q_lora_rank": 128,
    "kv_lora_rank": 128,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 32,
    "v_head_dim": 64,
}
DEEP = {"n_routed_experts": 32, "moe_intermediate_size": 256, "n_shared_experts": 1}
DEEP |= {"first_k_dense_replace": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "deepseek_v3": {**DEEP, **MLA, "n_group": 4, "topk_group": 2},
    "qwen3_moe": {
        "num_experts": 32,
        "moe_intermediate_size": 256,
        "head_dim": 64,
        "num_key_value_heads": 2,
    },
    "mixtral": {"num_local_experts": 32, "intermediate_size": 256},
    "glm4_moe": {**DEEP, "head_dim": 64},
    "gpt_oss": {"num_local_experts": 32, "intermediate_size": 256, "head_dim": 64},
}


def all_experts(experts: Any, hidden: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Every expert on every token, as the simplest observer would."""
    gates = torch.zeros(len(hidden), experts.num_experts, dtype=weights.dtype)
    gates.scatter_(1, ids, weights)
    out = torch.zeros_like(hidden)
    for expert in range(experts.num_experts):
        up, down = experts.gate_up_proj[expert], experts.down_proj[expert]
        up, down = (up, down) if experts.is_transposed else (up.T, down.T)
        bias = (
            (experts.gate_up_proj_bias[expert], experts.down_proj_bias[expert])
            if (experts.has_bias)
            else (0.0, 0.0)
        )
        output = experts._apply_gate(hidden @ up + bias[0]) @ down + bias[1]
        out += (output * gates[:, expert, None]).to(out.dtype)
    return out


def model_of(family: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **{**COMMON, **FAMILIES[family]})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model


def measure(family: str, dtype: torch.dtype, tokens: int, rounds: int) -> dict[str, Any]:
    model = model_of(family, dtype)
    ids = np.random.default_rng(0).integers(0, COMMON["vocab_size"], tokens)
    demo = TokenSequence(ids, np.zeros(tokens, dtype=bool))
    batch = torch.from_numpy(ids)[None]
    decoder = model.get_decoder()

    def plain() -> None:
        mask = torch.ones_like(batch)
        decoder(input_ids=batch, attention_mask=mask, use_cache=False)

    def observing() -> None:
        observe_in_memory(model, [demo])

    def two_batches() -> None:
        observe_in_memory(model, [demo, demo])

    def dense() -> None:
        model.set_experts_implementation("all_experts")
        try:
            plain()
        finally:
            model.set_experts_implementation("grouped_mm")

    ways: dict[str, Callable[[], None]] = {
        "plain": plain,
        "first batch": observing,
        "two batches": two_batches,
        "dense": dense,
    }
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for way in ways.values():
            way()
        for _ in range(rounds):
            for name, way in ways.items():
                if name == "dense" and cpu[name]:
                    continue
                start, process = time.perf_counter(), time.process_time()
                way()
                cpu[name].append(time.process_time() - process)
                wall[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(times) for name, times in cpu.items()}
    later = seconds["two batches"] - seconds["first batch"]
    return {
        "family": family,
        "dtype": str(dtype).removeprefix("torch."),
        "plain_cpu_s": round(seconds["plain"], 3),
        "first_batch": round(seconds["first batch"] / seconds["plain"], 3),
        "later_batch": round(later / seconds["plain"], 3),
        "first_batch_wall": round(
            statistics.median(wall["first batch"]) / statistics.median(wall["plain"]), 3
        ),
        "dense_over_observing": round(seconds["dense"] / later, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    ALL_EXPERTS_FUNCTIONS.register("all_experts", all_experts)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        for family in options.family or FAMILIES:
            found.append(measure(family, dtype, options.tokens, options.rounds))
            print(json.dumps(found[-1]), flush=True)
            if options.output is not None:  # bfloat16 can take long: what is known is kept
                options.output.parent.mkdir(parents=True, exist_ok=True)
                options.output.write_text(json.dumps(_report(options, found), indent=2) + "\n")


def _report(options: argparse.Namespace, found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "threads": 1,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokens": options.tokens,
        "rounds": options.rounds,
        "load_average": os.getloadavg()[0],
        "results": found,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
