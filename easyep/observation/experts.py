"""Where the routed experts of a layer are, and how to see what each of them gives.

transformers routes most MoE families through `experts(hidden_states, top_k_index, top_k_weights)`,
whose implementation can be chosen by name. The one registered here is the stock implementation
itself, with one look inside: the place where a family may norm the outputs of single experts is
where they are seen, un-weighted. transformers before 5.20 has no such place; there each pair of a
token and an expert is asked for by itself. The few families that compute otherwise have a watcher
of their own in `adapters`.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers.integrations.finegrained_fp8 import ALL_FP8_EXPERTS_FUNCTIONS, FP8Experts
from transformers.integrations.moe import (
    ALL_EXPERTS_FUNCTIONS,
    grouped_mm_experts_forward,
    use_experts_implementation,
)

from easyep.observation.row_norms import row_norms

IMPLEMENTATION = "easyep_recorder"
_TAP = "_easyep_tap"
_BEFORE = "_easyep_before"  # of a config: the implementation that is replaced

# The loop that 8-bit experts compute in where no kernel is asked for; transformers wraps it when it
# makes a model.
FP8_LOOP = FP8Experts.forward

# Whether the stock implementation shows the outputs of single experts.
SHOWN_INSIDE = "has_post_expert_norm" in inspect.signature(use_experts_implementation).parameters

# Name of an attribute of an experts module: who computes in its place, where its weights are
# elsewhere. (hidden_states, ids, weights) -> (routed [T, H], norms [T, k]).
COMPUTE = "_easyep_compute"


class Routes(NamedTuple):
    """What the routed experts of one layer did in one forward pass.

    Attributes:
        ids: [T, k], the experts chosen; a number that is no expert's means no route.
        weights: [T, k], their combine weights; 0 means no route.
        norms: float32 [T, k], the norms of their un-weighted outputs.
        routed: [T, H], the weighted sum of their outputs.
    """

    ids: Tensor
    weights: Tensor
    norms: Tensor
    routed: Tensor


class Tap(Protocol):
    """Who listens to one layer's experts."""

    @property
    def silent(self) -> bool:
        """Whether the experts are to give zeros now, and nothing is to be told."""

    def silence(self) -> AbstractContextManager[None]:
        """Within this context, `silent` is true in this thread."""

    def tell(self, routes: Routes) -> None:
        """What the experts did."""


class Watcher(Protocol):
    """How one kind of experts module is watched."""

    def finds(self, name: str, module: nn.Module) -> bool:
        """Whether the module, called `name` in its decoder layer, is of this kind."""

    def attach(self, block: nn.Module, experts: nn.Module, tap: Tap, undo: ExitStack) -> None:
        """Let `tap` hear what the experts, in their block, do until `undo` is closed."""


class InterfaceWatcher:
    """Experts that go through transformers' experts interface."""

    def finds(self, name: str, module: nn.Module) -> bool:
        return hasattr(module, "_is_expert_parallel") and hasattr(module, "has_gate")

    def attach(self, block: nn.Module, experts: nn.Module, tap: Tap, undo: ExitStack) -> None:
        ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, _watched_experts)
        ALL_FP8_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, _watched_experts)
        setattr(experts, _TAP, tap)
        undo.callback(delattr, experts, _TAP)
        config: Any = experts.config
        before = vars(config).get(_BEFORE, config._experts_implementation)
        if config._experts_implementation != IMPLEMENTATION:  # layers share one config
            undo.callback(setattr, config, "_experts_implementation", before)
            undo.callback(delattr, config, _BEFORE)
            setattr(config, _BEFORE, before)
            config._experts_implementation = IMPLEMENTATION
        if isinstance(experts, FP8Experts):
            stock = ALL_FP8_EXPERTS_FUNCTIONS.get(before, FP8_LOOP)
            setattr(experts, COMPUTE, partial(computed_by_rows, experts, stock))
            undo.callback(delattr, experts, COMPUTE)


class _SeenInside:
    """An experts module as the stock implementation sees it, with a look at single outputs.

    The stock implementation hands the outputs of single experts, rows sorted by expert and not
    yet weighted, to `post_expert_norm` where a family has one.
    """

    has_post_expert_norm = True

    def __init__(self, experts: Any, parameters: Mapping[str, Tensor] | None = None) -> None:
        self._experts = experts
        if parameters is not None:
            vars(self).update(parameters, num_experts=len(next(iter(parameters.values()))))
        self.outputs = torch.empty(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._experts, name)

    def post_expert_norm(self, outputs: Tensor) -> Tensor:
        if self._experts.has_post_expert_norm:
            outputs = self._experts.post_expert_norm(outputs)
        self.outputs = outputs
        return outputs


def _watched_experts(
    experts: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """An experts implementation: transformers' `grouped_mm`, heard by the module's tap.

    Args:
        experts: the module.
        hidden_states: [T, H].
        top_k_index: [T, k].
        top_k_weights: [T, k].

    Returns:
        [T, H], bit for bit what `grouped_mm` returns.
    """
    tap: Tap = getattr(experts, _TAP)
    if tap.silent:
        return torch.zeros_like(hidden_states)
    compute = getattr(experts, COMPUTE, None) or partial(computed, experts)
    routed, norms = compute(hidden_states, top_k_index, top_k_weights)
    tap.tell(Routes(top_k_index, top_k_weights, norms, routed))
    return routed


def computed(
    experts: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """What an experts module computes, and the norm of each un-weighted output.

    Args:
        experts: the module.
        hidden_states: [T, H].
        top_k_index: [T, k].
        top_k_weights: [T, k].

    Returns:
        The weighted sums [T, H], bit for bit those of transformers' `grouped_mm`; the norms,
        float32 [T, k].
    """
    if not SHOWN_INSIDE:
        stock = grouped_mm_experts_forward
        return computed_by_rows(experts, stock, hidden_states, top_k_index, top_k_weights)
    inside = _SeenInside(experts)
    routed: Tensor = grouped_mm_experts_forward(inside, hidden_states, top_k_index, top_k_weights)
    # The rows were sorted by expert; the same sort says whose each is.
    order = torch.sort(top_k_index.reshape(-1)).indices
    norms = row_norms(inside.outputs)
    return routed, torch.empty_like(norms).scatter_(0, order, norms).view(top_k_index.shape)


def computed_by_rows(
    experts: Any,
    stock: Callable[..., Tensor],
    hidden_states: Tensor,
    top_k_index: Tensor,
    top_k_weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """The same for implementations that cannot be seen inside, such as kernels for 8-bit weights.

    Each pair of a token and an expert is a token of its own, with the weight 1.

    Args:
        experts: the module.
        stock: its implementation.
        hidden_states, top_k_index, top_k_weights: as in `computed`.

    Returns:
        As `computed`; the weighted sums are formed here, in the type of the weights.
    """
    rows = hidden_states.repeat_interleave(top_k_index.shape[-1], dim=0)
    one = top_k_weights.new_ones(len(rows), 1)
    outputs = stock(experts, rows, top_k_index.reshape(-1, 1), one)
    norms = row_norms(outputs).view(top_k_index.shape)
    weighted = outputs.view(*top_k_index.shape, -1) * top_k_weights[..., None]
    return weighted.sum(dim=1).to(hidden_states.dtype), norms


def single_outputs(
    experts: Any, hidden_states: Tensor, ids: Tensor, parameters: Mapping[str, Tensor]
) -> Tensor:
    """The un-weighted output of one expert for each row.

    Args:
        experts: the module.
        hidden_states: [N, H].
        ids: [N], which expert of `parameters` a row is for.
        parameters: what stands in for the module's parameters of those names: their first axes
            count experts.

    Returns:
        [N, H].
    """
    inside = _SeenInside(experts, parameters)
    one = hidden_states.new_ones(len(ids), 1)
    outputs: Tensor = grouped_mm_experts_forward(inside, hidden_states, ids[:, None], one)
    return outputs
