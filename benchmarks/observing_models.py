"""The models that `observing.py` measures: five families, random weights, 32 experts, top-4.

``small`` has hidden 512 and experts of 256, and a dense layer first where the family has one: the
least favourable case, since attention and everything else around the experts count most there.
``released`` has hidden 1024 and, around it, the proportions of a released model: heads, latent
ranks and the experts' share (k times their width over the hidden size) are those of DeepSeek-V3,
Qwen3-30B-A3B, Mixtral-8x7B, GLM-4.5 and gpt-oss-20b, scaled down. ``true`` is the true shape of
the one released family that has just these 32 experts and top-4: gpt-oss-20b, 3.2 GB per layer in
float32.
"""

from typing import Any

import torch
import transformers
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

EXPERTS, TOP_K, VOCABULARY = 32, 4, 1000

_SMALL: dict[str, dict[str, Any]] = {
    "deepseek_v3": {
        "moe_intermediate_size": 256,
        "first_k_dense_replace": 1,
        "q_lora_rank": 128,
        "kv_lora_rank": 128,
        "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 32,
        "v_head_dim": 64,
    },
    "qwen3_moe": {"moe_intermediate_size": 256, "head_dim": 64, "num_key_value_heads": 2},
    "mixtral": {"intermediate_size": 256},
    "glm4_moe": {"moe_intermediate_size": 256, "first_k_dense_replace": 1, "head_dim": 64},
    "gpt_oss": {"intermediate_size": 256, "head_dim": 64},
}
_RELEASED: dict[str, dict[str, Any]] = {
    "deepseek_v3": {
        "moe_intermediate_size": 576,
        "first_k_dense_replace": 0,
        "num_attention_heads": 18,
        "num_key_value_heads": 18,
        "q_lora_rank": 224,
        "kv_lora_rank": 72,
    },
    "qwen3_moe": {
        "moe_intermediate_size": 768,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 128,
    },
    "mixtral": {"intermediate_size": 1792, "num_attention_heads": 8, "num_key_value_heads": 2},
    "glm4_moe": {
        "moe_intermediate_size": 704,
        "first_k_dense_replace": 0,
        "num_attention_heads": 24,
        "num_key_value_heads": 2,
        "head_dim": 128,
    },
    "gpt_oss": {
        "intermediate_size": 1024,
        "num_attention_heads": 24,
        "num_key_value_heads": 3,
        "head_dim": 64,
    },
}
_TRUE: dict[str, dict[str, Any]] = {
    "gpt_oss": {
        "intermediate_size": 2880,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
    },
}
_COUNTS: dict[str, dict[str, Any]] = {
    "deepseek_v3": {
        "n_routed_experts": EXPERTS,
        "n_shared_experts": 1,
        "n_group": 4,
        "topk_group": 2,
    },
    "qwen3_moe": {"num_experts": EXPERTS},
    "mixtral": {"num_local_experts": EXPERTS},
    "glm4_moe": {"n_routed_experts": EXPERTS, "n_shared_experts": 1},
    "gpt_oss": {"num_local_experts": EXPERTS},
}
FAMILIES = tuple(_COUNTS)
SIZES = {"small": (512, _SMALL), "released": (1024, _RELEASED), "true": (2880, _TRUE)}


def model_of(
    family: str,
    size: str,
    dtype: torch.dtype,
    device: str,
    *,
    layers: int = 3,
    scale: int = 1,
    **choices: Any,
) -> Any:
    """A random model.

    Args:
        layers: how many; a dense one counts.
        scale: how many times as wide everything is; on a GPU the sizes above are too small to
            keep it busy.
        choices: more arguments of transformers' `from_config`.
    """
    hidden, settings = SIZES[size]
    numbers = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        **settings[family],
    }
    wide = ("size", "heads", "rank")
    numbers = {k: v * scale if k.endswith(wide) else v for k, v in numbers.items()}
    config = transformers.AutoConfig.for_model(
        family,
        vocab_size=VOCABULARY,
        num_hidden_layers=layers,
        num_experts_per_tok=TOP_K,
        **_COUNTS[family],
        **numbers,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, **choices)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model.eval()


def expert_share(family: str, size: str, tokens: int, layers: int) -> float:
    """The routed experts' part of the floating-point operations of a plain forward pass.

    They are counted on a model without numbers, whose attention is written out: torch cannot count
    every kernel.
    """
    model = model_of(
        family, size, torch.float32, "meta", layers=layers, attn_implementation="eager"
    )
    sizes = [p.shape for n, p in model.named_parameters() if ".experts." in n and p.ndim == 3]
    routed = sum(2 * TOP_K * tokens * a * b for _, a, b in sizes)
    model.set_experts_implementation("no_experts")
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    mask = torch.ones_like(ids)
    with torch.inference_mode(), FlopCounterMode(display=False) as others:
        model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False)
    return float(routed / (routed + others.get_total_flops()))


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
