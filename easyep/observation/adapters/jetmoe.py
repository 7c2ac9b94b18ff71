"""JetMoE: experts as two stacks of matrices, over rows that its router sorts by expert."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from easyep.observation.experts import Routes, Tap
from easyep.observation.row_norms import row_norms


class JetMoeWatcher:
    """The output matrices of `JetMoeMoE`; its attention's experts are another kind."""

    def finds(self, name: str, module: nn.Module) -> bool:
        return type(module).__name__ == "JetMoeParallelExperts" and name == "mlp.output_linear"

    def attach(self, block: nn.Module, experts: nn.Module, tap: Tap, undo: ExitStack) -> None:
        routed: list[tuple[Any, ...]] = []
        router: Any = block.router

        def after_router(module: nn.Module, args: Any, output: tuple[Any, ...]) -> None:
            routed[:] = [output]

        def after_experts(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            if tap.silent:
                return torch.zeros_like(output)
            order, tokens, gates, sizes, logits = routed[0]
            numbers = torch.arange(len(sizes), device=output.device)
            of_rows = numbers.repeat_interleave(torch.tensor(sizes, device=output.device))
            norms = row_norms(output)
            shape = (len(logits), router.top_k)
            weighted = output * gates[:, None]
            total = torch.zeros(len(logits), output.shape[-1], dtype=output.dtype)
            tap.tell(
                Routes(
                    torch.empty_like(of_rows).scatter_(0, order, of_rows).view(shape),
                    torch.empty_like(gates).scatter_(0, order, gates).view(shape),
                    torch.empty_like(norms).scatter_(0, order, norms).view(shape),
                    total.to(output.device).index_add(0, tokens, weighted),
                )
            )
            return None

        undo.callback(router.register_forward_hook(after_router).remove)
        undo.callback(experts.register_forward_hook(after_experts).remove)
