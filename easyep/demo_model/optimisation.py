"""Weights, gradients and AdamW on flat vectors, with a forward pass on BF16-rounded weights."""

from __future__ import annotations

import torch
from torch import nn

PEAK_RATE = 3e-3
FINAL_SHARE = 0.02
WARM_UP_STEPS = 100
CONSTANT_SHARE = 0.3
BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.05
CLIP = 1.0


def learning_rate(step: int, steps: int, peak: float = PEAK_RATE) -> float:
    """Linear warm-up, constant until 30 % of the run, then linear to 2 % of the peak."""
    if step < WARM_UP_STEPS:
        return peak * (step + 1) / WARM_UP_STEPS
    done = (step / max(steps, 1) - CONSTANT_SHARE) / (1 - CONSTANT_SHARE)
    return peak * (1 - (1 - FINAL_SHARE) * min(max(done, 0.0), 1.0))


class FlatAdamW:
    """AdamW on float32 masters of which the network only sees the BF16-rounded values.

    The gradient at the rounded weights moves the masters (straight-through), so the BF16 file that
    is exported in the end is the very network that was trained, not a rounding of it. All
    gradients lie in one vector, `gradient`, so that processes sum them in one call.

    Args:
        network: on the device where it is trained.
        arithmetic: what the network computes in: float32 (its rounded values, the faster on a
            CPU), or bfloat16 itself, for a GPU's matrix units.
    """

    def __init__(self, network: nn.Module, arithmetic: torch.dtype = torch.float32) -> None:
        named = list(network.named_parameters())
        matrices = [p for _, p in named if p.ndim >= 2]
        vectors = [p for _, p in named if p.ndim < 2]
        parameters = matrices + vectors
        size = sum(p.numel() for p in parameters)
        decayed = sum(p.numel() for p in matrices)
        values = torch.cat([p.detach().flatten() for p in parameters]).float()
        self.gradient = torch.zeros(size, dtype=arithmetic, device=values.device)
        self._wide = self.gradient.float()  # itself, where it is float32 already
        self._rounded = torch.empty(size, dtype=arithmetic, device=values.device)
        self._masters = [
            nn.Parameter(values[:decayed].clone()),
            nn.Parameter(values[decayed:].clone()),
        ]
        spans = (slice(0, decayed), slice(decayed, size))
        for master, span in zip(self._masters, spans, strict=True):
            master.grad = self._wide[span]
        self._spans = spans
        self._adamw = torch.optim.AdamW(
            [
                {"params": [self._masters[0]], "weight_decay": WEIGHT_DECAY},
                {"params": [self._masters[1]], "weight_decay": 0.0},
            ],
            lr=PEAK_RATE,
            betas=BETAS,
            fused=True,
        )
        start = 0
        for p in parameters:
            span = slice(start, start + p.numel())
            p.data = self._rounded[span].view(p.shape)
            p.grad = self.gradient[span].view(p.shape)
            start += p.numel()
        self._round()

    def step(self, rate: float) -> float:
        """Clips, updates, rounds and clears the gradient; returns the norm before clipping."""
        self._wide.copy_(self.gradient)
        norm = float(self._wide.norm())
        if norm > CLIP:
            self._wide.mul_(CLIP / norm)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.step()
        self._round()
        self.gradient.zero_()
        return norm

    def state(self) -> dict[str, object]:
        """All that is needed to go on: masters and moments."""
        return {
            "masters": [master.detach() for master in self._masters],
            "adamw": self._adamw.state_dict(),
        }

    def restore(self, state: dict[str, object]) -> None:
        """Takes up what `state` returned."""
        with torch.no_grad():
            for master, saved in zip(self._masters, state["masters"], strict=True):  # type: ignore[call-overload]
                master.copy_(saved)
        self._adamw.load_state_dict(state["adamw"])  # type: ignore[arg-type]
        self._round()

    def _round(self) -> None:
        with torch.no_grad():
            for master, span in zip(self._masters, self._spans, strict=True):
                self._rounded[span] = master.bfloat16().to(self._rounded.dtype)
