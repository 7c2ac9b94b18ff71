"""Checkpoints in every storage format that people prune, written by safetensors' own writer.

A format is data: which tensors take the place of one weight of R rows and C columns, and how its
settings name the modules that are left out. The bytes are random; nothing here depends on them.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, prod
from pathlib import Path
from typing import Any

EXPERTS, LAYERS, HIDDEN, INNER = 8, 2, 128, 64

# (dtype, shape) by what follows the name of the matrix.
Form = tuple[str, tuple[int, ...]]
Matrix = Callable[[int, int], dict[str, Form]]

# dtype -> its name in torch, and bytes.
DTYPES = {
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "I32": ("int32", 4),
    "I64": ("int64", 8),
}


def blocks(dtype: str, height: int, width: int) -> Callable[[int, int], Form]:
    """A scale for every block of a matrix."""
    return lambda r, c: (dtype, (ceil(r / height), ceil(c / width)))


def plain(dtype: str) -> Matrix:
    return lambda r, c: {".weight": (dtype, (r, c))}


def fp8(scale: str, form: Callable[[int, int], Form]) -> Matrix:
    return lambda r, c: {".weight": ("F8_E4M3", (r, c)), scale: form(r, c)}


def names_in(module: Callable[[int, int], str]) -> list[str]:
    """Names of a module of every expert of every layer, and some that must not change."""
    experts = [module(layer, expert) for layer in range(LAYERS) for expert in range(EXPERTS)]
    return ["lm_head", "model.layers.0.self_attn", *experts, "re:.*shared_experts.*"]


def down_proj(layer: int, expert: int) -> str:
    return f"model.layers.{layer}.mlp.experts.{expert}.down_proj"


def pattern(layer: int, expert: int) -> str:
    return rf"-:model\.layers\.{layer}\.mlp\.experts\.{expert}\.down_proj"


@dataclass(frozen=True)
class Format:
    """One way to store weights.

    Attributes:
        matrix: the tensors of one weight.
        settings: `quantization_config` in `config.json`.
        files: name -> content of further files with settings.
        stacked: all experts of a layer lie in one tensor along axis 0.
        scalars: (stacked) tensors that all experts share; they stay as they are.
        attention: of the weights outside of experts; as `matrix` where it is None.
    """

    matrix: Matrix
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    stacked: bool = False
    scalars: tuple[str, ...] = ()
    attention: Matrix | None = None


FORMATS: dict[str, Format] = {
    "bf16": Format(plain("BF16")),
    "fp16": Format(plain("F16")),
    "fp32": Format(plain("F32")),
    # DeepSeek-V3, Qwen3-FP8: scales of blocks of 128 x 128; BF16 scales in Qwen3.5.
    "fp8 in blocks": Format(
        fp8(".weight_scale_inv", blocks("F32", 128, 128)),
        {"quant_method": "fp8", "modules_to_not_convert": names_in(down_proj)},
    ),
    "fp8 in blocks, bf16 scales": Format(
        fp8(".weight_scale_inv", blocks("BF16", 128, 128)),
        {"quant_method": "fp8", "ignored_layers": names_in(down_proj)},
    ),
    # DeepSeek-V3.1; the released V4 calls the scales ".scale".
    "fp8 with e8m0 scales": Format(
        fp8(".scale", blocks("F8_E8M0", 128, 128)),
        {"quant_method": "fp8", "scale_fmt": "ue8m0"},
    ),
    # MiniMax-M3: exponents as bytes, 1 x 32.
    "mxfp8": Format(
        fp8(".weight_scale_inv", blocks("U8", 1, 32)),
        {"quant_method": "mxfp8", "ignored_layers": names_in(down_proj)},
    ),
    "mxfp8 with e8m0 scales": Format(fp8(".weight_scale", blocks("F8_E8M0", 1, 32))),
    # DeepSeek-V4: two numbers a byte in the experts, FP8 elsewhere.
    "packed mxfp4 experts": Format(
        lambda r, c: {".weight": ("I8", (r, c // 2)), ".scale": ("F8_E8M0", (r, c // 32))},
        {"quant_method": "fp8", "expert_dtype": "fp4"},
        attention=fp8(".scale", blocks("F8_E8M0", 128, 128)),
    ),
    # Kimi-K2-Thinking.
    "compressed-tensors int4": Format(
        lambda r, c: {
            ".weight_packed": ("I32", (r, c // 8)),
            ".weight_scale": ("BF16", (r, c // 32)),
            ".weight_shape": ("I64", (2,)),
        },
        {"quant_method": "compressed-tensors", "ignore": names_in(down_proj)},
        attention=plain("BF16"),
    ),
    "compressed-tensors fp8": Format(
        fp8(".weight_scale", lambda r, c: ("BF16", (r, 1))),
        {
            "quant_method": "compressed-tensors",
            "ignore": names_in(lambda layer, expert: "re:" + pattern(layer, expert)[2:] + "$"),
        },
    ),
    "modelopt nvfp4": Format(
        lambda r, c: {
            ".weight": ("U8", (r, c // 2)),
            ".weight_scale": ("F8_E4M3", (r, c // 16)),
            ".weight_scale_2": ("F32", ()),
            ".input_scale": ("F32", ()),
        },
        {"quant_method": "modelopt", "ignore": names_in(down_proj)},
        {
            "hf_quant_config.json": {
                "producer": {"name": "modelopt", "version": "0.40"},
                "quantization": {
                    "quant_algo": "MIXED_PRECISION",
                    "exclude_modules": names_in(down_proj),
                    "quantized_layers": {n: {"quant_algo": "FP8"} for n in names_in(down_proj)},
                },
            }
        },
    ),
    "compressed-tensors nvfp4": Format(
        lambda r, c: {
            ".weight_packed": ("U8", (r, c // 2)),
            ".weight_scale": ("F8_E4M3", (r, c // 16)),
            ".weight_global_scale": ("F32", (1,)),
            ".input_global_scale": ("F32", (1,)),
        },
        {"quant_method": "compressed-tensors", "ignore": names_in(down_proj)},
    ),
    "awq": Format(
        lambda r, c: {
            ".qweight": ("I32", (c, r // 8)),
            ".qzeros": ("I32", (c // 32, r // 8)),
            ".scales": ("F16", (c // 32, r)),
        },
        {"quant_method": "awq", "modules_to_not_convert": names_in(down_proj)},
        {"quant_config.json": {"w_bit": 4, "modules_to_not_convert": names_in(down_proj)}},
        attention=plain("F16"),
    ),
    "gptq": Format(
        lambda r, c: {
            ".qweight": ("I32", (c // 8, r)),
            ".qzeros": ("I32", (c // 32, r // 8)),
            ".scales": ("F16", (c // 32, r)),
            ".g_idx": ("I32", (c,)),
        },
        {"quant_method": "gptq", "dynamic": {name: {} for name in names_in(pattern)}},
        {"quantize_config.json": {"bits": 4, "dynamic": {n: {} for n in names_in(pattern)}}},
        attention=plain("F16"),
    ),
    "bitsandbytes": Format(
        lambda r, c: {
            ".weight": ("U8", (r * c // 2, 1)),
            ".weight.absmax": ("F32", (r * c // 64,)),
            ".weight.quant_map": ("F32", (16,)),
            ".weight.quant_state.bitsandbytes__nf4": ("U8", (87,)),
        },
        {"quant_method": "bitsandbytes", "llm_int8_skip_modules": names_in(down_proj)},
    ),
    "stacked bf16": Format(lambda r, c: {"": ("BF16", (r, c))}, stacked=True),
    # gpt-oss.
    "stacked mxfp4": Format(
        lambda r, c: {
            "_blocks": ("U8", (r, c // 32, 16)),
            "_scales": ("U8", (r, c // 32)),
            "_bias": ("BF16", (r,)),
        },
        {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.mlp.router"]},
        stacked=True,
        attention=plain("BF16"),
    ),
    # HunYuan V4, Mistral 4: a static scale for each expert, too.
    "stacked fp8": Format(
        lambda r, c: {
            "": ("F8_E4M3", (r, c)),
            "_scale_inv": ("F32", (ceil(r / 128), ceil(c / 128))),
            "_activation_scale": ("F32", ()),
        },
        {"quant_method": "fp8"},
        stacked=True,
    ),
    # Step-3.7: second scales of shape [experts], or one scalar for all of them.
    "stacked nvfp4": Format(
        lambda r, c: {
            ".weight": ("U8", (r, c // 2)),
            ".weight_scale": ("F8_E4M3", (r, c // 16)),
            ".weight_scale_2": ("F32", ()),
        },
        stacked=True,
        scalars=(".input_scale",),
    ),
}


def tensors(name: str) -> dict[str, Form]:
    """Names, types and shapes of a model in one format, in the names of DeepSeek-V3."""
    how = FORMATS[name]
    attention = how.attention or (plain("BF16") if how.stacked else how.matrix)
    forms: dict[str, Form] = {
        "model.embed_tokens.weight": ("BF16", (16, HIDDEN)),
        "model.norm.weight": ("BF16", (HIDDEN,)),
        "lm_head.weight": ("BF16", (16, HIDDEN)),
    }
    shapes = {
        "gate_proj": (INNER, HIDDEN),
        "up_proj": (INNER, HIDDEN),
        "down_proj": (HIDDEN, INNER),
    }
    stacked = {"gate_up_proj": (2 * INNER, HIDDEN), "down_proj": (HIDDEN, INNER)}

    def add(module: str, matrix: Mapping[str, Form]) -> None:
        forms.update({module + suffix: form for suffix, form in matrix.items()})

    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        # 576 rows: 4.5 blocks of 128.
        add(f"{prefix}self_attn.kv_a_proj_with_mqa", attention(576, HIDDEN))
        forms[f"{prefix}self_attn.calls"] = ("I64", ())
        forms[f"{prefix}self_attn.nothing"] = ("F32", (0, 4))
        add(f"{prefix}mlp.shared_experts.down_proj", attention(*shapes["down_proj"]))
        forms[f"{prefix}mlp.gate.weight"] = ("BF16", (EXPERTS, HIDDEN))
        forms[f"{prefix}mlp.gate.e_score_correction_bias"] = ("F32", (EXPERTS,))
        if how.stacked:
            for module, shape in stacked.items():
                matrix = how.matrix(*shape).items()
                whole = {suffix: (dtype, (EXPERTS, *of)) for suffix, (dtype, of) in matrix}
                add(
                    f"{prefix}mlp.experts.{module}", whole | dict.fromkeys(how.scalars, ("F32", ()))
                )
            continue
        for expert in range(EXPERTS):
            for module, shape in shapes.items():
                add(f"{prefix}mlp.experts.{expert}.{module}", how.matrix(*shape))
    return forms


def write(name: str, path: Path, shards: int, *, tied: bool = False) -> Path:
    """A checkpoint in the new directory `path`, in one file or in several.

    In several files the scales lie apart from the weights, as in released ones.
    """
    import torch
    from safetensors.torch import save_file

    rng = random.Random(name)
    files: list[dict[str, Any]] = [{} for _ in range(shards)]
    for number, (key, (dtype, shape)) in enumerate(tensors(name).items()):
        kind, size = DTYPES[dtype]
        data = bytearray(rng.randbytes(prod(shape) * size))
        flat = torch.frombuffer(data, dtype=torch.uint8) if data else torch.zeros(0).byte()
        if not (tied and key == "lm_head.weight"):
            files[number % shards][key] = flat.view(getattr(torch, kind)).reshape(shape)
    path.mkdir()
    weight_map = {}
    for number, content in enumerate(files, start=1):
        file = (
            f"model-{number:05}-of-{shards:05}.safetensors" if shards > 1 else "model.safetensors"
        )
        save_file(content, path / file, metadata={"format": "pt", "made_by": "a quantiser"})
        weight_map.update(dict.fromkeys(content, file))
    if shards > 1:
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        index["metadata"]["total_size"] = sum(t.nbytes for file in files for t in file.values())
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "model_type": "deepseek_v3",
        "num_hidden_layers": LAYERS,
        "n_routed_experts": EXPERTS,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 0,
        "num_nextn_predict_layers": 0,
        "topk_method": "noaux_tc",
        "tie_word_embeddings": tied,
    }
    if FORMATS[name].settings:
        config["quantization_config"] = FORMATS[name].settings
    for file, content in {"config.json": config, **FORMATS[name].files}.items():
        (path / file).write_text(json.dumps(content, indent=2))
    return path
