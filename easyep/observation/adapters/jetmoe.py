"""JetMoE: experts as two stacks of matrices, over rows that its router sorts by expert.

A layer has two sets of them: one in the place of the MLP, and one around the attention, where an
expert maps a token to its queries, and what they fetched back to the stream. What an attention
expert gives is what its second matrix gives; it joins the stream as a MLP expert's output does.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from easyep.observation.experts import Routes, Tap
from easyep.observation.row_norms import row_norms


@dataclass(frozen=True)
class JetMoeWatcher:
    """One set of `JetMoeParallelExperts`, by the name of its output matrices in a layer.

    Attributes:
        name: of the module.
        stream: the submodule of the layer whose input is the residual stream; None = it is found.
    """

    name: str = "mlp.output_linear"
    stream: str | None = None

    def finds(self, name: str, module: nn.Module) -> bool:
        return type(module).__name__ == "JetMoeParallelExperts" and name == self.name

    def attach(self, block: nn.Module, experts: nn.Module, tap: Tap, undo: ExitStack) -> None:
        routed: list[tuple[Any, ...]] = []
        routers = (m for m in block.modules() if type(m).__name__ == "JetMoeTopKGating")
        router: Any = next(routers)

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


ATTENTION = JetMoeWatcher("self_attention.experts.output_linear", stream="input_layernorm")
