"""The models that `observing.py` measures: five families, random weights, 32 experts, top-4.

``small`` has hidden 512 and experts of 256, and a dense layer first where the family has one: the
least favourable case, since attention and everything else around the experts count most there.
``released`` has hidden 1024 and, around it, the proportions of a released model: heads, latent
ranks and the experts' share (k times their width over the hidden size) are those of DeepSeek-V3,
Qwen3-30B-A3B, Mixtral-8x7B, GLM-4.5 and gpt-oss-20b, scaled down.
"""

from typing import Any

import torch
import transformers
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
SIZES = {"small": (512, _SMALL), "released": (1024, _RELEASED)}


def model_of(family: str, size: str, dtype: torch.dtype, device: str, scale: int = 1) -> Any:
    """A random model.

    Args:
        scale: how many times as wide everything is; on a GPU the sizes above are too small to
            keep it busy.
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
        num_hidden_layers=3,
        num_experts_per_tok=TOP_K,
        **_COUNTS[family],
        **numbers,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model


def expert_share(model: Any, ids: torch.Tensor) -> float:
    """The routed experts' part of the floating-point operations of a plain forward pass."""
    sizes = [p.shape for n, p in model.named_parameters() if ".experts." in n and p.ndim == 3]
    routed = sum(2 * TOP_K * ids.numel() * a * b for _, a, b in sizes)
    model.set_experts_implementation("no_experts")
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as others:
            model.get_decoder()(input_ids=ids, use_cache=False)
    finally:
        model.set_experts_implementation("grouped_mm")
    return float(routed / (routed + others.get_total_flops()))
