"""Routed experts of one layer, loaded a few at a time, for the tokens of all passes at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from easyep.distributed import Group
from easyep.observation.exchange import add_up, from_first
from easyep.observation.experts import single_outputs
from easyep.observation.reading_ahead import read_ahead
from easyep.observation.row_norms import row_norms
from easyep.observation.weights.partial import PartialModel


@dataclass
class ExpertsCall:
    """What one pass asks of a layer's experts, and what it gets.

    Attributes:
        hidden_states: [T, H].
        ids: [T, k].
        weights: [T, k].
        routed: float32 [T, H], the weighted sum so far.
        norms: float32 [T, k].
    """

    hidden_states: Tensor
    ids: Tensor
    weights: Tensor
    routed: Tensor
    norms: Tensor

    @classmethod
    def of(cls, hidden_states: Tensor, ids: Tensor, weights: Tensor) -> "ExpertsCall":
        """A call to which no expert has answered yet."""
        return cls(
            hidden_states,
            ids,
            weights,
            torch.zeros(hidden_states.shape, dtype=torch.float32, device=hidden_states.device),
            torch.zeros(ids.shape, dtype=torch.float32, device=ids.device),
        )

    def moved(self, outside: Callable[[Tensor], Tensor]) -> "ExpertsCall":
        """The same call, its large tensors where `outside` makes room for their like."""
        hidden_states = outside(self.hidden_states).copy_(self.hidden_states)
        return replace(self, hidden_states=hidden_states, routed=outside(self.routed))


def run_experts(
    model: PartialModel,
    layer: int,
    calls: Sequence[ExpertsCall],
    memory: int,
    tell: Callable[[], None] = lambda: None,
) -> None:
    """Answer `calls`: read each expert that a token was sent to once, use it, drop it.

    The next experts are read and dequantised by a second thread while these compute. Several
    processes that run the same passes have equal parts of the experts, and add up what they give:
    the sums of a token's experts are float32 in any case, but formed in another order.

    Args:
        model: the model.
        layer: the layer.
        calls: of all passes.
        memory: bytes of experts to be held at a time; at least one is.
        tell: is called after some experts have answered.
    """
    experts = model.experts_of(layer)
    assert experts is not None
    group = model.reader.group
    _agree(group, layer, calls)
    count = model.layout.router.num_experts
    asked = {int(i) for call in calls for i in call.ids.reshape(-1).tolist()}
    hit = sorted(expert for expert in asked if 0 <= expert < count)
    own = hit[group.here.number :: group.here.size]
    chunks = list(_chunks(own, experts, memory))
    for ids, weights in read_ahead(chunks, partial(model.read_experts, layer), model.device):
        parameters = model.place_experts(layer, weights, len(ids))
        del weights
        for call in calls:
            _answer(call, experts, ids, parameters)
        tell()
    group.meet(f"finish its experts of layer {layer}")
    for call in calls:
        add_up(group, call.routed)
        add_up(group, call.norms)  # all but one process have 0


def _agree(group: Group, layer: int, calls: Sequence[ExpertsCall]) -> None:
    """Let all processes send tokens where rank 0 does; another kind of processor may round."""
    group.meet(f"come to the experts of layer {layer}")
    for call in calls:
        call.ids, call.weights = from_first(group, call.ids), from_first(group, call.weights)


def _chunks(hit: list[int], experts: nn.Module, memory: int) -> Iterator[list[int]]:
    each = sum(p.numel() // len(p) * p.element_size() for p in experts.parameters(recurse=False))
    # One chunk computes, one is being read; stacking holds each twice for a moment.
    size = max(1, memory // (4 * max(1, each)))
    for first in range(0, len(hit), size):
        yield hit[first : first + size]


def _answer(
    call: ExpertsCall, experts: Any, ids: Sequence[int], parameters: Mapping[str, Tensor]
) -> None:
    """Add what the experts `ids` do with a pass's tokens."""
    loaded = torch.tensor(ids, device=call.ids.device, dtype=call.ids.dtype)  # ascending
    mine = torch.searchsorted(loaded, call.ids).clamp(max=len(ids) - 1)
    token, slot = (loaded[mine] == call.ids).nonzero(as_tuple=True)
    if not len(token):
        return
    # By experts, so that a token's sum does not depend on how many of them are held at a time.
    order = mine[token, slot].argsort(stable=True)
    token, slot = token[order], slot[order]
    outputs = single_outputs(experts, call.hidden_states[token], mine[token, slot], parameters)
    call.norms[token, slot] = row_norms(outputs)
    call.routed.index_add_(0, token, (outputs * call.weights[token, slot, None]).float())
