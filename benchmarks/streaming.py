"""Pruning a model that does not fit: DeepSeek-V3's true dimensions, streamed under a memory limit.

    python benchmarks/streaming.py --moe-layers 2 --demos 25 --tokens 512 --limit 6 --folder DIR

Makes a block-FP8 checkpoint with random weights (hidden 7168, 256 experts of 2048, MLA, blocks of
128, the 576-row projection; one dense layer and the MoE layers asked for), then runs `easyep prune
--runner stream` in a process whose private memory is limited by the kernel (RLIMIT_DATA: heap,
anonymous mappings and stacks; allocations beyond it fail), and says where the time went. Times of
reading, dequantising and computing overlap: the next experts are read and dequantised by a second
thread.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from easyep.checkpoint.headers import build_header, bytes_of

HIDDEN, EXPERTS, INNER, VOCABULARY = 7168, 256, 2048, 129_280
Form = tuple[str, tuple[int, ...]]


def config(moe_layers: int) -> dict[str, Any]:
    """DeepSeek-V3's configuration with fewer layers."""
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "dtype": "bfloat16",
        "hidden_size": HIDDEN,
        "intermediate_size": 18_432,
        "moe_intermediate_size": INNER,
        "n_routed_experts": EXPERTS,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "first_k_dense_replace": 1,
        "num_hidden_layers": 1 + moe_layers,
        "num_nextn_predict_layers": 0,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 163_840,
        "rope_theta": 10_000,
        "tie_word_embeddings": False,
        "quantization_config": {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [128, 128],
        },
    }


def tensors(moe_layers: int) -> dict[str, Form]:
    """Every tensor of the checkpoint, as the released files have them."""
    found: dict[str, Form] = {}

    def fp8(name: str, rows: int, columns: int) -> None:
        found[f"{name}.weight"] = ("F8_E4M3", (rows, columns))
        found[f"{name}.weight_scale_inv"] = ("F32", (-(-rows // 128), -(-columns // 128)))

    def mlp(name: str, inner: int) -> None:
        fp8(f"{name}.gate_proj", inner, HIDDEN)
        fp8(f"{name}.up_proj", inner, HIDDEN)
        fp8(f"{name}.down_proj", HIDDEN, inner)

    found["model.embed_tokens.weight"] = ("BF16", (VOCABULARY, HIDDEN))
    for layer in range(1 + moe_layers):
        prefix = f"model.layers.{layer}."
        fp8(f"{prefix}self_attn.q_a_proj", 1536, HIDDEN)
        fp8(f"{prefix}self_attn.q_b_proj", 128 * 192, 1536)
        fp8(f"{prefix}self_attn.kv_a_proj_with_mqa", 576, HIDDEN)
        fp8(f"{prefix}self_attn.kv_b_proj", 128 * 256, 512)
        fp8(f"{prefix}self_attn.o_proj", HIDDEN, 128 * 128)
        for norm, size in (("q_a_layernorm", 1536), ("kv_a_layernorm", 512)):
            found[f"{prefix}self_attn.{norm}.weight"] = ("BF16", (size,))
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{prefix}{norm}.weight"] = ("BF16", (HIDDEN,))
        if layer == 0:
            mlp(f"{prefix}mlp", 18_432)
            continue
        found[f"{prefix}mlp.gate.weight"] = ("BF16", (EXPERTS, HIDDEN))
        found[f"{prefix}mlp.gate.e_score_correction_bias"] = ("F32", (EXPERTS,))
        mlp(f"{prefix}mlp.shared_experts", INNER)
        for expert in range(EXPERTS):
            mlp(f"{prefix}mlp.experts.{expert}", INNER)
    found["model.norm.weight"] = ("BF16", (HIDDEN,))
    found["lm_head.weight"] = ("BF16", (VOCABULARY, HIDDEN))
    return found


def content(name: str, form: Form, draw: np.random.Generator) -> Iterator[bytes]:
    """Random bytes that make a model whose activations neither vanish nor explode."""
    dtype, shape = form
    count = int(np.prod(shape))
    if dtype == "F8_E4M3":  # every code but those that are no number
        codes = np.delete(np.arange(256, dtype=np.uint8), [0x7F, 0xFF])
        piece = codes[draw.integers(0, len(codes), 1 << 22)].tobytes()
        for done in range(0, count, len(piece)):
            yield piece[: count - done]
    elif name.endswith("weight_scale_inv"):  # the codes have a spread of about 95
        yield np.full(shape, 1 / (95 * 64), np.float32).tobytes()
    elif dtype == "F32":
        yield (draw.standard_normal(shape) * 0.1).astype(np.float32).tobytes()
    elif len(shape) == 1:
        yield np.full(shape, 0x3F80, np.uint16).tobytes()  # ones
    else:
        rows = (draw.standard_normal((64, shape[1])) * 0.02).astype(np.float32)
        piece = (rows.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        size = bytes_of(*form)
        for done in range(0, size, len(piece)):
            yield piece[: size - done]


def write(folder: Path, moe_layers: int, shard_bytes: int = 4_000_000_000) -> int:
    """Write the checkpoint; its bytes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(moe_layers), indent=2))
    shards: list[dict[str, Form]] = [{}]
    size = total = 0
    for name, form in tensors(moe_layers).items():
        if size > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = form
        size += bytes_of(*form)
        total += bytes_of(*form)
    draw = np.random.default_rng(0)
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        order = sorted(shard, key=lambda name: -bytes_of(shard[name][0], (1,)))
        with open(folder / file, "wb") as out:
            out.write(build_header(((n, *shard[n]) for n in order), {"format": "pt"}))
            for name in order:
                for piece in content(name, shard[name], draw):
                    out.write(piece)
            out.flush()
            os.fsync(out.fileno())
            os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        weight_map.update(dict.fromkeys(shard, file))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def write_demos(path: Path, demos: int, tokens: int) -> None:
    draw = np.random.default_rng(1)
    with open(path, "w") as out:
        for _ in range(demos):
            ids = draw.integers(0, VOCABULARY, tokens).tolist()
            out.write(json.dumps({"input_ids": ids, "response_start": tokens // 2}) + "\n")


def prune(arguments: argparse.Namespace) -> dict[str, Any]:
    """In the limited process: prune, with a clock on each part."""
    from easyep import pipeline
    from easyep.observation import streamed_experts
    from easyep.observation.weights.partial import PartialModel
    from easyep.observation.weights.reading import WeightReader

    seconds: dict[str, float] = {}
    lock = threading.Lock()

    def clocked(owner: Any, name: str, part: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                with lock:
                    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - begin

        setattr(owner, name, timed)

    clocked(WeightReader, "_bytes", "reading")
    clocked(WeightReader, "_numbers", "dequantising")
    clocked(PartialModel, "place_experts", "stacking experts")
    clocked(PartialModel, "load_layer", "loading dense parts, reading and dequantising included")
    clocked(streamed_experts, "_answer", "computing experts")
    before = _counters()
    done = pipeline.prune(
        str(arguments.model),
        output=arguments.output,
        demos=(str(arguments.demo_file),),
        n_demos=arguments.demos,
        keep=0.5,
        runner="stream",
        mtp="drop",
        device=arguments.device,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": done.seconds,
        "parts_of_observe": {name: round(value, 1) for name, value in seconds.items()},
        "peak_rss_gb": round(peak / 1e9, 2),
        "read_from_disk_gb": round((_counters() - before) / 1e9, 2),
        "source_gb": round(done.rewritten.bytes_before / 1e9, 2),
        "pruned_gb": round(done.rewritten.bytes_after / 1e9, 2),
        "kept": done.selection.keep,
    }


def _counters() -> int:
    """Bytes that the kernel has fetched from storage for this process."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


@contextmanager
def _checkpoint(arguments: argparse.Namespace) -> Iterator[Path]:
    model = arguments.folder / f"deepseek-v3-shape-{arguments.moe_layers}"
    begin = time.perf_counter()
    size = 0 if model.exists() else write(model, arguments.moe_layers)
    if size:
        print(f"wrote {size / 1e9:.1f} GB in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    try:
        yield model
    finally:
        if not arguments.keep_files:
            shutil.rmtree(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--moe-layers", type=int, default=1)
    parser.add_argument("--demos", type=int, default=25)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--limit", type=float, default=6.0, help="GiB of private memory; 0 = none")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keep-files", action="store_true")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--demo-file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model is not None:
        if arguments.limit:
            size = int(arguments.limit * (1 << 30))
            resource.setrlimit(resource.RLIMIT_DATA, (size, size))
        print(json.dumps(prune(arguments)))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    demo_file = arguments.folder / "demos.jsonl"
    write_demos(demo_file, arguments.demos, arguments.tokens)
    with _checkpoint(arguments) as model:
        output = arguments.folder / "pruned"
        shutil.rmtree(output, ignore_errors=True)
        own = ["--model", model, "--output", output, "--demo-file", demo_file]
        begin = time.perf_counter()
        ran = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], *map(str, own)],
            stdout=subprocess.PIPE,
            check=True,
        )
        result = json.loads(ran.stdout)
        result["wall_seconds"] = round(time.perf_counter() - begin, 1)
        shutil.rmtree(output, ignore_errors=True)
    result |= {
        "moe_layers": arguments.moe_layers,
        "demos": arguments.demos,
        "tokens_each": arguments.tokens,
        "limit_gib": arguments.limit,
        "device": arguments.device,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
