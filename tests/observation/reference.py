"""EASY-EP in plain float64, token by token and expert by expert, with routers of its own."""

import math

import torch
from torch import Tensor

NORMS = "post_attention_layernorm"


def records(model, ids: Tensor) -> dict[int, dict[str, Tensor]]:
    """What every MoE layer does with one sequence.

    Args:
        model: a float64 copy of the model.
        ids: [T].

    Returns:
        layer -> expert_ids [T, k], weights [T, k], output_norms [T, k], residual_shift [T], where
        the experts of a token are in ascending order of id.
    """
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    hooks = []
    for index, layer in enumerate(model.model.layers):
        if not hasattr(layer.mlp, "experts"):
            continue

        def norm(module, args, output, index=index):
            seen[index] = (args[0][0], output[0])  # residual stream h, block input x

        hooks.append(getattr(layer, NORMS).register_forward_hook(norm))
    with torch.no_grad():
        model(ids[None])
    for hook in hooks:
        hook.remove()
    return {i: _layer(model, model.model.layers[i].mlp, *seen[i]) for i in seen}


@torch.no_grad()
def mtp_record(model, mtp, ids: Tensor) -> dict[str, Tensor]:
    """What the first MTP layer does with one sequence (DeepSeek-V3 report, equations 21 to 23).

    It joins the embedding of token t + 1 with the main model's last hidden state of token t.

    Args:
        model: a float64 copy of the main model.
        mtp: a float64 copy of its MTP layers.
        ids: [T].
    """
    layer, count = mtp.layers[0], len(ids) - 1
    hidden = model.model(ids[None]).last_hidden_state[:, :-1]
    embedded = model.model.embed_tokens(ids[None, 1:])
    inputs = layer.eh_proj(torch.cat([layer.enorm(embedded), layer.hnorm(hidden)], dim=-1))
    positions = torch.arange(1, count + 1)[None]
    later = torch.full((1, 1, count, count), float("-inf"), dtype=inputs.dtype).triu(1)
    seen = []
    norm = getattr(layer.mtp_block, NORMS)
    hook = norm.register_forward_hook(lambda m, args, output: seen.append((args[0][0], output[0])))
    layer.mtp_block(
        inputs,
        attention_mask=later,
        position_ids=positions,
        position_embeddings=model.model.rotary_emb(inputs, positions),
    )
    hook.remove()
    return _layer(model, layer.mtp_block.mlp, *seen[0])


@torch.no_grad()
def _layer(model, block, stream: Tensor, inputs: Tensor) -> dict[str, Tensor]:
    rows = {"expert_ids": [], "weights": [], "output_norms": [], "residual_shift": []}
    for h, x in zip(stream, inputs, strict=True):
        chosen = _route(model.config, block.gate, x)
        routed, norms = torch.zeros_like(h), []
        for expert in sorted(chosen):
            output = _expert(block.experts, expert, x)
            norms.append(math.sqrt(sum(float(v) ** 2 for v in output)))
            routed = routed + chosen[expert] * output
        after = h + routed
        cosine = float(h @ after) / (math.sqrt(float(h @ h)) * math.sqrt(float(after @ after)))
        rows["expert_ids"].append(sorted(chosen))
        rows["weights"].append([chosen[expert] for expert in sorted(chosen)])
        rows["output_norms"].append(norms)
        rows["residual_shift"].append(max(0.0, 1 - cosine))
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in rows.items()}


def _route(config, gate, x: Tensor) -> dict[int, float]:
    logits = (gate.weight.double() @ x).tolist()
    count, k = len(logits), config.num_experts_per_tok
    if config.model_type == "deepseek_v3":
        scores = [1 / (1 + math.exp(-logit)) for logit in logits]
        bias = gate.e_score_correction_bias.double().tolist()
        choice = [s + b for s, b in zip(scores, bias, strict=True)]
        size = count // config.n_group
        groups = [choice[g * size : (g + 1) * size] for g in range(config.n_group)]
        best = sorted(range(config.n_group), key=lambda g: -sum(sorted(groups[g])[-2:]))
        open_groups = best[: config.topk_group]
        allowed = [e for e in range(count) if e // size in open_groups]
        chosen = sorted(allowed, key=lambda e: -choice[e])[:k]
        total = sum(scores[e] for e in chosen) if config.norm_topk_prob else 1.0
        return {e: scores[e] / total * config.routed_scaling_factor for e in chosen}
    highest = max(logits)
    scores = [math.exp(logit - highest) for logit in logits]
    scores = [score / sum(scores) for score in scores]
    chosen = sorted(range(count), key=lambda e: -scores[e])[:k]
    renormalise = config.model_type == "mixtral" or config.norm_topk_prob
    total = sum(scores[e] for e in chosen) if renormalise else 1.0
    return {e: scores[e] / total for e in chosen}


def _expert(experts, expert: int, x: Tensor) -> Tensor:
    gate, up = (experts.gate_up_proj[expert].double() @ x).chunk(2)
    return experts.down_proj[expert].double() @ (gate * torch.sigmoid(gate) * up)


def easy_ep(record: dict[str, Tensor], num_experts: int) -> list[float]:
    """Equation by equation: the sum over tokens of g ||e|| (1 - cos), per expert."""
    scores = [0.0] * num_experts
    ids = record["expert_ids"].long().tolist()
    for token, experts in enumerate(ids):
        shift = float(record["residual_shift"][token])
        for slot, expert in enumerate(experts):
            weight = float(record["weights"][token, slot])
            scores[expert] += weight * float(record["output_norms"][token, slot]) * shift
    return scores
