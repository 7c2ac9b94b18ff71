"""A small model in the form of the code that comes with LLaDA-MoE and LLaDA2.

Attention is not causal; without a mask every token sees every other. Both kinds of names are here:
those of LLaDA-MoE (`model_type` "llada") and those of LLaDA2 ("llada2_moe").
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput


class LladaConfig(PreTrainedConfig):
    model_type = "llada"


class Llada2Config(PreTrainedConfig):
    model_type = "llada2_moe"


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return functional.rms_norm(x, x.shape[-1:], self.weight, 1e-6)


class MLP(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


def rotated(x, positions):
    half = x.shape[-1] // 2
    inverse = 10000.0 ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angles = positions[:, None, :, None].to(x.dtype) * inverse  # [B, 1, T, half]
    one, other = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([one * cos - other * sin, other * cos + one * sin], dim=-1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // self.heads

    def attend(self, q, k, v, mask, positions):
        q, k = rotated(q, positions), rotated(k, positions)
        repeat = self.heads // self.kv_heads
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).flatten(2)

    def split(self, x, heads):
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class LladaAttention(Attention):
    def __init__(self, config):
        super().__init__(config)
        size, wide = config.hidden_size, self.heads * self.width
        self.q_proj = nn.Linear(size, wide, bias=False)
        self.k_proj = nn.Linear(size, self.kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(size, self.kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(wide, size, bias=False)
        self.q_norm, self.k_norm = Norm(wide), Norm(self.kv_heads * self.width)

    def forward(self, x, mask, positions):
        q = self.split(self.q_norm(self.q_proj(x)), self.heads)
        k = self.split(self.k_norm(self.k_proj(x)), self.kv_heads)
        v = self.split(self.v_proj(x), self.kv_heads)
        return self.o_proj(self.attend(q, k, v, mask, positions))


class Llada2Attention(Attention):
    def __init__(self, config):
        super().__init__(config)
        size = config.hidden_size
        joined = (self.heads + 2 * self.kv_heads) * self.width
        self.query_key_value = nn.Linear(size, joined, bias=False)
        self.dense = nn.Linear(self.heads * self.width, size, bias=False)
        self.query_layernorm, self.key_layernorm = Norm(self.width), Norm(self.width)

    def forward(self, x, mask, positions):
        joined = self.split(self.query_key_value(x), self.heads + 2 * self.kv_heads)
        q, k, v = joined.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        q, k = self.query_layernorm(q), self.key_layernorm(k)
        return self.dense(self.attend(q, k, v, mask, positions))


class LladaBlock(nn.Module):
    """One expert after the other picks its tokens; softmax, not renormalised."""

    def __init__(self, config):
        super().__init__()
        self.k, size = config.num_experts_per_tok, config.hidden_size
        self.gate = nn.Linear(size, config.num_experts, bias=False)
        self.experts = nn.ModuleList(
            MLP(size, config.expert_intermediate_size) for _ in range(config.num_experts)
        )
        self.last = None

    def forward(self, hidden):
        x = hidden.view(-1, hidden.shape[-1])
        weights, ids = self.gate(x).softmax(-1).topk(self.k)
        self.last = (x, ids, weights)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            tokens, slots = torch.where(ids == number)
            if len(tokens):
                out.index_add_(0, tokens, expert(x[tokens]) * weights[tokens, slots, None])
        return out.view_as(hidden)


class Gate(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(config.num_experts, config.hidden_size))
        self.expert_bias = nn.Parameter(torch.zeros(config.num_experts))

    def forward(self, x):
        config = self.config
        scores = functional.linear(x, self.weight).sigmoid()
        groups = (scores + self.expert_bias).unflatten(-1, (config.n_group, -1))
        best = groups.topk(2, dim=-1).values.sum(-1).topk(config.topk_group).indices
        closed = torch.ones_like(groups[..., 0], dtype=torch.bool).scatter(-1, best, False)
        choice = groups.masked_fill(closed[..., None], float("-inf")).flatten(1)
        ids = choice.topk(config.num_experts_per_tok).indices
        weights = scores.gather(1, ids)
        return ids, weights / weights.sum(-1, keepdim=True) * config.routed_scaling_factor


class Llada2Block(nn.Module):
    """Tokens sorted by expert, and a shared expert."""

    def __init__(self, config):
        super().__init__()
        size, inner = config.hidden_size, config.moe_intermediate_size
        self.gate = Gate(config)
        self.experts = nn.ModuleList(MLP(size, inner) for _ in range(config.num_experts))
        self.shared_experts = MLP(size, inner * config.num_shared_experts)
        self.last = None

    def forward(self, hidden):
        x = hidden.view(-1, hidden.shape[-1])
        ids, weights = self.gate(x)
        self.last = (x, ids, weights)
        order = ids.view(-1).argsort()
        counts = ids.view(-1).bincount(minlength=len(self.experts)).tolist()
        parts = x[order // ids.shape[1]].split(counts)
        outputs = [e(part) for e, part in zip(self.experts, parts, strict=True) if len(part)]
        back = torch.empty_like(torch.cat(outputs))
        back[order] = torch.cat(outputs)
        routed = (back.view(*ids.shape, -1) * weights[..., None]).sum(1)
        return (routed + self.shared_experts(x)).view_as(hidden)


class Layer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        size = config.hidden_size
        self.input_layernorm, self.post_attention_layernorm = Norm(size), Norm(size)
        if config.model_type == "llada":
            self.self_attn, self.mlp = LladaAttention(config), LladaBlock(config)
        else:
            self.attention = Llada2Attention(config)
            dense = index < config.first_k_dense_replace
            self.mlp = MLP(size, config.intermediate_size) if dense else Llada2Block(config)

    def forward(self, x, mask, positions):
        attention = self.self_attn if hasattr(self, "self_attn") else self.attention
        x = x + attention(self.input_layernorm(x), mask, positions)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.name = "embed_tokens" if config.model_type == "llada" else "word_embeddings"
        setattr(self, self.name, embedding)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size)

    def forward(self, input_ids, attention_mask=None, position_ids=None, use_cache=None):
        x = getattr(self, self.name)(input_ids)
        if position_ids is None:
            position_ids = torch.arange(x.shape[1], device=x.device)[None]
        for layer in self.layers:
            x = layer(x, attention_mask, position_ids)
        return BaseModelOutput(last_hidden_state=self.norm(x))


class Llada(PreTrainedModel):
    config_class = LladaConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, input_ids, **arguments):
        return CausalLMOutput(logits=self.lm_head(self.model(input_ids, **arguments)[0]))


class Llada2(Llada):
    config_class = Llada2Config
