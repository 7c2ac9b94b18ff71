"""Load balance without an auxiliary loss: the routers' correction biases, as in DeepSeek-V3.

After each step an expert that got less than the mean load of the whole batch (all domains, all
processes) is preferred a little more, and the other way round. The bias takes part in the choice
only, not in the weights; nothing rewards or punishes specialisation on a domain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

SPEED = 0.002
#: The biases stay as they are in the last part of the run.
FROZEN_SHARE = 0.1


class Balance:
    """Counts the loads of every router and moves the biases."""

    def __init__(self, network: nn.Module) -> None:
        self.routers = [m for m in network.modules() if isinstance(m, DeepseekV3TopkRouter)]
        #: [routers, experts], real tokens (no padding) that chose the expert since `clear`.
        device = self.routers[0].weight.device
        self.loads = torch.zeros(len(self.routers), self.routers[0].num_experts, device=device)
        self._real = torch.empty(0, dtype=torch.bool)
        for number, router in enumerate(self.routers):
            router.register_forward_hook(self._hook(number))

    def clear(self, real: torch.Tensor) -> None:
        """Starts a new batch; `real` [R, T] says which tokens are no padding."""
        self.loads.zero_()
        self._real = real

    def move(self) -> None:
        """One step of every bias by the sign of what is missing; a router without load stays."""
        missing = self.loads.mean(dim=1, keepdim=True) - self.loads
        for router, direction in zip(self.routers, missing.sign(), strict=True):
            router.e_score_correction_bias += SPEED * direction

    def imbalance(self) -> list[float]:
        """Largest load over mean load, per router; nan for a router that saw nothing."""
        return (self.loads.max(dim=1).values / self.loads.mean(dim=1)).tolist()

    def _hook(self, number: int) -> Any:
        def count(_module: nn.Module, _args: Any, output: Any) -> None:
            chosen = output[2]
            # The MTP layer sees one position less per row than the main model.
            real = self._real if chosen.shape[0] == self._real.numel() else self._real[:, 1:]
            # Neither a mask nor bincount: on a GPU both wait for what is under way.
            each = real.reshape(-1, 1).expand(chosen.shape).to(self.loads.dtype)
            self.loads[number].scatter_add_(0, chosen.reshape(-1), each.reshape(-1))

        return count
