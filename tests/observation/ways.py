"""What each family does around its experts, read from transformers' sources: the data of the tests.

Most families need no entry: their experts are `mlp.experts`, the residual stream is what goes into
`post_attention_layernorm`, and the experts' sum is added to it as it is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


def as_they_are(layer: Any) -> tuple[Any, Any]:
    return 1.0, 1.0


def granite(layer: Any) -> tuple[Any, Any]:
    return 1.0, layer.residual_multiplier


def minimax(layer: Any) -> tuple[Any, Any]:
    return layer.mlp_alpha_factor, layer.mlp_beta_factor


def beam(layer: Any) -> tuple[Any, Any]:
    index = layer.mlp_residual_add_idx
    return math.sqrt((index - 1) / index), 1 / math.sqrt(index)


def muse_spark(layer: Any) -> tuple[Any, Any]:
    gate = layer.post_feedforward_residual_gate
    beta = torch.sigmoid(gate.gate / gate.temperature)
    alpha = torch.sqrt(torch.clamp((1 - beta) * (1 + beta), min=gate.eps))
    return alpha, beta


def zaya(layer: Any) -> tuple[Any, Any]:
    scale = layer.post_mlp_residual_scale
    return scale.residual_scale, scale.hidden_states_scale


@dataclass(frozen=True)
class Way:
    """One family's way from the experts to the residual stream.

    Attributes:
        experts: the experts' module in a decoder layer, see `single_experts`.
        stream: the module that the residual stream goes into, as its `place`-th tensor.
        streams: how many there are side by side; their mean is taken.
        factor: what the block multiplies its experts' sum by, a number or its attribute.
        projection: the module between the experts' space and the stream's.
        norms: modules that norm what is added, in order.
        convolution: a module that mixes it over time.
        scales: layer -> what the stream and what the added are multiplied by.
    """

    experts: str = "mlp.experts"
    stream: str = "post_attention_layernorm"
    place: int = 0
    streams: int = 1
    factor: float | str = 1.0
    projection: str | None = None
    norms: tuple[str, ...] = ()
    convolution: str | None = None
    scales: Callable[[Any], tuple[Any, Any]] = as_they_are


_NEMOTRON = Way(experts="mixer.experts", stream="norm", projection="mixer.fc2_latent_proj")
_GRANITE = Way(experts="block_sparse_moe.experts", scales=granite)

WAYS = {
    "afmoe": Way(stream="pre_mlp_layernorm", norms=("post_mlp_layernorm",)),
    "axk1": Way(norms=("mlp.post_mlp_layernorm",)),
    "beam": Way(
        stream="pre_feedforward_layernorm",
        factor="mlp.routed_scaling_factor",
        norms=("post_feedforward_layernorm",),
        scales=beam,
    ),
    "cohere2_moe": Way(stream="input_layernorm", factor=0.5),
    "dbrx": Way(experts="ffn.experts", stream="norm_attn_norm.norm_2"),
    "ernie4_5_vl_moe": Way(experts="mlp.text_moe.experts"),
    "flex_olmo": Way(stream="mlp", norms=("post_feedforward_layernorm",)),
    "gemma4": Way(
        experts="experts",
        stream="pre_feedforward_layernorm_2",
        norms=("post_feedforward_layernorm_2", "post_feedforward_layernorm"),
    ),
    "granitemoe": _GRANITE,
    "granitemoe_swa": _GRANITE,
    "granitemoehybrid": _GRANITE,
    "granitemoeshared": _GRANITE,
    "inkling_mm_model": Way(convolution="mlp_sconv"),
    "inkling2": Way(stream="mlp_input", place=1, convolution="post_mlp_convolution"),
    "jamba": Way(experts="feed_forward.experts", stream="pre_ff_layernorm"),
    "jetmoe": Way(experts="mlp"),
    "kolibri1": Way(norms=("post_mlp_layernorm",)),
    "laguna": Way(factor="mlp.routed_scaling_factor"),
    "lfm2_moe": Way(experts="feed_forward.experts", stream="ffn_norm"),
    "llama4": Way(experts="feed_forward"),
    "longcat_flash": Way(stream="post_attention_layernorm.0"),
    "minimax": Way(stream="mlp", scales=minimax),
    "minimax_m3_vl": Way(factor="mlp.routed_scaling_factor"),
    "muse_spark": Way(
        stream="pre_feedforward_layernorm",
        projection="mlp.post_expert_proj",
        norms=("post_feedforward_layernorm",),
        scales=muse_spark,
    ),
    "nemotron_h": _NEMOTRON,
    "nemotron_h_omni": _NEMOTRON,
    "openai_privacy_filter": Way(factor="mlp.num_experts"),
    "qwen4_exp": Way(stream="mlp_hyper_connection", streams=2),
    "qwen4_exp.per_expert": Way(stream="mlp_hyper_connection", streams=2),
    "step3p7": Way(factor="mlp.routed_scaling_factor"),
    "zaya": Way(scales=zaya),
}
