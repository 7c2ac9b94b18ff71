"""Llama 4: every expert runs on every token, and the weight multiplies the expert's input.

An expert that was not chosen gets a row of zeros and gives zeros. What a chosen one adds is
e = E(g x), with no weight outside: it is recorded as the weight g and the norm ||e|| / g, so that
their product is the size of the contribution, as it is for all other families.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from easyep.observation.experts import Routes, Tap


class Llama4Watcher:
    """`Llama4TextExperts`, together with the router beside it."""

    def finds(self, name: str, module: nn.Module) -> bool:
        return type(module).__name__ == "Llama4TextExperts"

    def attach(self, block: nn.Module, experts: nn.Module, tap: Tap, undo: ExitStack) -> None:
        scores: list[Tensor] = []
        router: Any = block.router

        def after_router(module: nn.Module, args: Any, output: tuple[Tensor, Tensor]) -> None:
            scores[:] = [output[0]]

        def after_experts(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            if tap.silent:
                return torch.zeros_like(output)
            weights, ids = scores[0].topk(router.top_k, dim=1)  # [T, k]; 0 where not chosen
            outputs = output.view(scores[0].shape[1], len(ids), -1)  # [E, T, H]
            norms = torch.linalg.vector_norm(outputs, dim=-1, dtype=torch.float32)
            sizes = norms.T.gather(1, ids) / weights.float()
            tap.tell(Routes(ids, weights, sizes, outputs.sum(dim=0)))
            return None

        undo.callback(router.register_forward_hook(after_router).remove)
        undo.callback(experts.register_forward_hook(after_experts).remove)
