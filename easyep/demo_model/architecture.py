"""The demo's network: transformers' DeepSeek-V3, small, and one multi-token-prediction layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
    DeepseekV3DecoderLayer,
    DeepseekV3RMSNorm,
)

from easyep.demo_model.batches import attention_mask
from easyep.demo_model.tokenizer import BEGIN, END, PAD, SPECIAL_TOKENS, VOCABULARY


@dataclass(frozen=True)
class Size:
    """A network that the training script can make.

    Attributes:
        dimensions: fields of the configuration.
        peak_rate: AdamW's largest learning rate.
    """

    dimensions: Mapping[str, Any]
    peak_rate: float


SIZES: Mapping[str, Size] = {
    # 4 MoE layers of 32 experts; 4.6 million parameters with the MTP layer.
    "demo": Size(
        {
            "hidden_size": 128,
            "intermediate_size": 256,
            "moe_intermediate_size": 64,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "q_lora_rank": 64,
            "kv_lora_rank": 48,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 16,
            "v_head_dim": 32,
            "n_routed_experts": 32,
            "num_experts_per_tok": 4,
            "n_group": 4,
            "topk_group": 2,
            "initializer_range": 0.05,
        },
        peak_rate=3e-3,
    ),
    # 8 MoE layers of 64 experts; 135 million parameters with the MTP layer. For a GPU.
    "large": Size(
        {
            "hidden_size": 384,
            "intermediate_size": 1024,
            "moe_intermediate_size": 192,
            "num_hidden_layers": 9,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "q_lora_rank": 192,
            "kv_lora_rank": 96,
            "qk_nope_head_dim": 32,
            "qk_rope_head_dim": 32,
            "v_head_dim": 64,
            "n_routed_experts": 64,
            "num_experts_per_tok": 6,
            "n_group": 8,
            "topk_group": 4,
            "initializer_range": 0.03,
        },
        peak_rate=1e-3,
    ),
}


def configuration(size: str = "demo") -> DeepseekV3Config:
    """A DeepSeek-V3 with the dimensions of `SIZES[size]`."""
    return DeepseekV3Config(
        **SIZES[size].dimensions,
        vocab_size=VOCABULARY,
        first_k_dense_replace=1,
        n_shared_experts=1,
        routed_scaling_factor=2.5,
        norm_topk_prob=True,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        num_nextn_predict_layers=1,
        pad_token_id=SPECIAL_TOKENS.index(PAD),
        bos_token_id=SPECIAL_TOKENS.index(BEGIN),
        eos_token_id=SPECIAL_TOKENS.index(END),
        # transformers needs neither of these two; vLLM and llama.cpp read them.
        topk_method="noaux_tc",
        scoring_func="sigmoid",
        architectures=["DeepseekV3ForCausalLM"],
        dtype="bfloat16",
    )


class MtpLayer(nn.Module):
    """DeepSeek-V3's multi-token-prediction layer, with the arithmetic of transformers' `MtpLayer`.

    From the main model's state h[t] (after its final norm) and the next token x[t+1] it predicts
    x[t+2], through the main model's embedding and head.
    """

    def __init__(self, config: DeepseekV3Config) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.enorm = DeepseekV3RMSNorm(size, eps=eps)
        self.hnorm = DeepseekV3RMSNorm(size, eps=eps)
        self.eh_proj = nn.Linear(2 * size, size, bias=False)
        self.block = DeepseekV3DecoderLayer(config, config.num_hidden_layers)
        self.norm = DeepseekV3RMSNorm(size, eps=eps)

    def forward(
        self,
        next_embeds: torch.Tensor,
        states: torch.Tensor,
        mask: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """next_embeds, states [R, T, H]; mask [R, 1, T, T] -> states for the head [R, T, H]."""
        x: torch.Tensor = self.eh_proj(
            torch.cat([self.enorm(next_embeds), self.hnorm(states)], dim=-1)
        )
        x = self.block(x, attention_mask=mask, position_embeddings=rotary)
        ahead: torch.Tensor = self.norm(x)
        return ahead


class Network(nn.Module):
    """The main model and its MTP layer.

    Args:
        config: its dimensions.
        experts: transformers' way to run experts, ``"grouped_mm"`` or ``"eager"``.
    """

    def __init__(self, config: DeepseekV3Config, experts: str = "grouped_mm") -> None:
        super().__init__()
        # The fastest of the stock ways on a CPU in float32 (a padded batched product: 1.8x slower).
        config._attn_implementation = "eager"
        config._experts_implementation = experts
        self.main = DeepseekV3ForCausalLM(config)
        self.mtp = MtpLayer(config)
        self.mtp.apply(self.main._init_weights)

    def states(
        self, ids: torch.Tensor, positions: torch.Tensor, segments: torch.Tensor
    ) -> torch.Tensor:
        """Final normed states [R, T, H]; attention stays within the items of a row."""
        mask = attention_mask(segments)
        output = self.main.model(
            input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False
        )
        states: torch.Tensor = output.last_hidden_state
        return states

    def mtp_states(
        self,
        states: torch.Tensor,
        ids: torch.Tensor,
        positions: torch.Tensor,
        segments: torch.Tensor,
    ) -> torch.Tensor:
        """MTP states [R, T-1, H]; entry t combines states[t] and ids[t+1] and predicts ids[t+2].

        Where t and t+1 belong to different items the entry means nothing: it is masked out, as in
        generation, where the first entry of an item combines its first state and second token.
        """
        joined = torch.where(segments[:, :-1] == segments[:, 1:], segments[:, 1:], -1)
        embeds = self.main.model.embed_tokens(ids[:, 1:])
        rotary = self.main.model.rotary_emb(embeds, positions[:, 1:])
        ahead: torch.Tensor = self.mtp(embeds, states[:, :-1], attention_mask(joined), rotary)
        return ahead
