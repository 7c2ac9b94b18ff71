"""What every expert gives to one token, in float64, one at a time; whatever module holds them."""

from typing import Any

import torch
from torch import Tensor


def routes_of(experts: Any, args: tuple[Tensor, ...]) -> list[dict[int, Any]]:
    """For every token: expert -> (weight g, un-weighted output e [H]).

    Args:
        experts: the experts' module; for Llama 4 and JetMoE the block around them.
        args: what it got.
    """
    own = {"JetMoeMoE": _jetmoe, "Llama4TextMoe": _llama4}.get(type(experts).__name__)
    if own is not None:
        return own(experts, args[0].reshape(-1, args[0].shape[-1]))
    hidden, ids, weights = args
    hidden = hidden.reshape(-1, hidden.shape[-1])
    known = getattr(experts, "num_routed_experts", None)  # Longcat-Flash: others have no weights
    found = []
    for x, chosen, given in zip(hidden, ids.tolist(), weights.tolist(), strict=True):
        token = {}
        for expert, weight in zip(chosen, given, strict=True):
            if weight and (known is None or expert < known):
                # Two routes, of which one counts: not every module takes a single one.
                numbers = torch.tensor([[expert, 0 if expert else 1]])
                only = weights.new_tensor([[1.0, 0.0]])
                token[expert] = (weight, experts(x[None], numbers, only).flatten())
        found.append(token)
    return found


def _llama4(block: Any, hidden: Tensor) -> list[dict[int, Any]]:
    """The weight multiplies the input; e is the output divided by it."""
    experts, found = block.experts, []
    for x in hidden:
        logits = block.router.weight @ x
        token = {}
        for expert in logits.topk(block.top_k).indices.tolist():
            weight = float(torch.sigmoid(logits[expert]))
            gate, up = (weight * x @ experts.gate_up_proj[expert]).chunk(2)
            output = (up * gate * gate.sigmoid()) @ experts.down_proj[expert]
            token[expert] = (weight, output / weight)
        found.append(token)
    return found


def _jetmoe(block: Any, hidden: Tensor) -> list[dict[int, Any]]:
    found = []
    for x in hidden:
        logits = block.router.layer.weight @ x
        chosen = logits.topk(block.router.top_k).indices.tolist()
        weights = torch.softmax(logits[chosen], dim=0).tolist()
        token = {}
        for expert, weight in zip(chosen, weights, strict=True):
            gate, up = (block.input_linear.weight[expert] @ x).chunk(2)
            output = block.output_linear.weight[expert] @ (block.activation(gate) * up)
            token[expert] = (weight, output)
        found.append(token)
    return found
