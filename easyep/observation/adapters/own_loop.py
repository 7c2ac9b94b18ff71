"""Experts modules with a loop of their own: Longcat-Flash, Step 3, DBRX.

Their forward has the usual arguments, hidden states, expert ids and weights, and multiplies each
expert's output by its weights, `outputs * weights[tokens, slots, None]`. A weights tensor that
notices this product sees the un-weighted outputs, and nothing of the module has to be repeated.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from easyep.observation.calls import rows
from easyep.observation.experts import Routes, Tap
from easyep.observation.row_norms import row_norms

NAMES = ("DbrxExperts", "LongcatFlashExperts", "Step3p7Experts")
# How Longcat-Flash says how many of its experts have weights. Further ones behind them return their
# input: they cannot be pruned, and are left out like a shared expert.
_COUNT = "num_routed_experts"
_PRODUCTS = (torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__)


class OwnLoopWatcher:
    """Experts that weigh their outputs in a loop of their own."""

    def finds(self, name: str, module: nn.Module) -> bool:
        return type(module).__name__ in NAMES

    def attach(self, block: nn.Module, experts: nn.Module, tap: Tap, undo: ExitStack) -> None:
        noticed: list[_Noticing] = []

        def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden, ids, weights = args
            noticed.append(_Noticing.of(weights))
            return hidden, ids, noticed[-1]

        def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            weights, (hidden, ids, _) = noticed.pop(), args
            given, routed = weights.as_subclass(Tensor), rows(output)
            count = getattr(module, _COUNT, None)
            if count is not None:
                passed_on = given.masked_fill(ids < count, 0.0).sum(-1, keepdim=True) * rows(hidden)
                given, routed = given.masked_fill(ids >= count, 0.0), routed - passed_on
            if tap.silent:
                without = passed_on if count is not None else torch.zeros_like(output)
                return without.view_as(output).to(output.dtype)
            tap.tell(Routes(ids, given, weights.norms, routed))
            return None

        undo.callback(experts.register_forward_pre_hook(before).remove)
        undo.callback(experts.register_forward_hook(after).remove)


class _Noticing(Tensor):
    """Weights [T, k] that notice what is multiplied by a part of them."""

    norms: Tensor  # float32 [T, k]
    part: Any

    @classmethod
    def of(cls, weights: Tensor) -> "_Noticing":
        noticing: _Noticing = weights.as_subclass(cls)
        noticing.norms = torch.zeros_like(weights, dtype=torch.float32)
        noticing.part = None
        return noticing

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        plain = [arg.as_subclass(Tensor) if isinstance(arg, cls) else arg for arg in args]
        result = func(*plain, **(kwargs or {}))
        if func is Tensor.__getitem__ and isinstance(args[1], tuple):
            part: _Noticing = result.as_subclass(cls)
            part.norms, part.part = args[0].norms, args[1][:2]
            return part
        if func in _PRODUCTS:
            weights, outputs = args if isinstance(args[0], cls) else args[::-1]
            if weights.part is not None:
                sizes = row_norms(outputs)
                weights.norms[weights.part] = sizes
        return result
