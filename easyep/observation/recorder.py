"""Reads the router's decision and the experts' outputs while a transformers model runs.

transformers routes its MoE families through `experts(hidden_states, top_k_index, top_k_weights)`,
whose implementation can be chosen by name. The recorder registers one that returns the very sum
that the model's default implementation does, and sees every expert's un-weighted output on the
way. The residual stream before the block comes from hooks that need no module's name.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

from easyep.artifacts import RoutedTokens, TokenSequence
from easyep.errors import ObservationError

IMPLEMENTATION = "easyep_recorder"
_RECORDER = "_easyep_recorder"


def residual_shift(before: Tensor, routed: Tensor) -> Tensor:
    """How far the routed experts turned each token's representation.

    s = 1 - cos(h, h + r), computed as half the squared distance of the two unit vectors: in
    floating point 1 - cos loses all its digits where the shift is small, and this does not
    (arXiv 2504.06792 for the definition). Never below 0; 1 where only one of the two vectors is
    zero, whose cosine counts as 0, as in torch.

    Args:
        before: h [T, H], the residual stream before the MoE block.
        routed: r [T, H], the weighted sum of the routed experts' outputs.

    Returns:
        float32 [T].
    """
    before = before.float()
    after = before + routed.float()
    sizes = [torch.linalg.vector_norm(h, dim=-1, keepdim=True) for h in (before, after)]
    tiny = torch.finfo(torch.float32).tiny
    units = [h / size.clamp_min(tiny) for h, size in zip((before, after), sizes, strict=True)]
    shift = (units[0] - units[1]).square().sum(-1) / 2
    one_is_zero = ((sizes[0] == 0) != (sizes[1] == 0)).squeeze(-1)
    return torch.where(one_is_zero, 1.0, shift)


@dataclass
class _Tap:
    """What is known of one MoE layer during a forward pass, and recorded of it so far.

    T is the number of tokens in the batch, padding included.
    """

    index: int
    residual: Tensor | None = None  # [T, H]
    checked: bool = False
    parts: list[RoutedTokens] = field(default_factory=list)


class Recorder:
    """Records RoutedTokens of every MoE layer while the model runs.

    Args:
        layers: layer index -> decoder layer; layers without routed experts are passed over.

    Raises:
        ObservationError: a layer's experts do not go through transformers' experts interface.
    """

    def __init__(self, layers: Mapping[int, nn.Module]) -> None:
        self._taps: dict[int, _Tap] = {}
        self._blocks: list[tuple[nn.Module, nn.Module, nn.Module, _Tap]] = []
        self._tokens: tuple[Tensor, Tensor, Tensor] | None = None
        for index, layer in layers.items():
            found = [
                (block, experts)
                for block in layer.children()
                for experts in block.children()
                if _is_experts(experts)
            ]
            if len(found) == 1:
                tap = self._taps[index] = _Tap(index)
                self._blocks.append((layer, *found[0], tap))
            elif found or any(_is_experts(module) for module in layer.modules()):
                raise ObservationError(f"layer {index}: its routed experts are not in one block")

    @property
    def moe_layers(self) -> list[int]:
        """The indices of the layers with routed experts."""
        return sorted(self._taps)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within this context the layers record; after it they are as before."""
        ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, _recording_experts)
        with ExitStack() as undo:
            for layer, block, experts, tap in self._blocks:
                _watch_residual(layer, block, tap, undo)
                setattr(experts, _RECORDER, (self, tap))
                undo.callback(delattr, experts, _RECORDER)
                config: Any = experts.config
                undo.callback(
                    setattr, config, "_experts_implementation", config._experts_implementation
                )
            # Layers share one config: change it only after all have remembered what it said.
            for _, _, experts, _ in self._blocks:
                config = experts.config
                config._experts_implementation = IMPLEMENTATION
            yield

    @contextmanager
    def batch(
        self, demos: Sequence[int], tokens: Sequence[TokenSequence], first: int, width: int
    ) -> Iterator[None]:
        """What the rows of the batch that runs within this context are.

        Args:
            demos: the demonstrations' numbers, one per row.
            tokens: the demonstrations themselves.
            first: the position in its demonstration that a row's first token has.
            width: tokens per row, right padding included.
        """
        valid = torch.zeros(len(demos), width, dtype=torch.bool)
        demo = torch.zeros(len(demos), width, dtype=torch.int32)
        response = torch.zeros(len(demos), width, dtype=torch.bool)
        for row, (number, sequence) in enumerate(zip(demos, tokens, strict=True)):
            length = max(0, len(sequence) - first)
            valid[row, :length] = True
            demo[row] = number
            response[row, :length] = torch.from_numpy(sequence.is_response[first:])
        self._tokens = (valid.reshape(-1), demo.reshape(-1), response.reshape(-1))
        try:
            yield
        finally:
            self._tokens = None

    def routed_tokens(self) -> dict[int, RoutedTokens]:
        """What was recorded: layer index -> record.

        Raises:
            ObservationError: a layer with routed experts was never run.
        """
        for index, tap in self._taps.items():
            if not tap.parts:
                raise ObservationError(
                    f"no token reached layer {index}; MTP layers need demonstrations of two tokens"
                )
        return {i: RoutedTokens.concatenate(tap.parts) for i, tap in sorted(self._taps.items())}

    def record(
        self, tap: _Tap, ids: Tensor, weights: Tensor, norms: Tensor, routed: Tensor
    ) -> None:
        """Keep what one layer did with one batch; padding is left out."""
        if self._tokens is None or tap.residual is None:
            raise ObservationError(
                f"layer {tap.index}: the residual stream before its MoE block was not seen"
            )
        valid, demo, response = self._tokens
        if len(valid) != len(ids):
            raise ObservationError(
                f"layer {tap.index} routed {len(ids)} tokens of a batch of {len(valid)}"
            )
        shift = residual_shift(tap.residual, routed)
        here = valid.to(ids.device)
        tap.parts.append(
            RoutedTokens(
                expert_ids=ids[here].to(torch.int32).cpu().numpy(),
                weights=weights[here].float().cpu().numpy(),
                output_norms=norms[here].float().cpu().numpy(),
                residual_shift=shift[here].cpu().numpy(),
                demo=demo[valid].numpy(),
                is_response=response[valid].numpy(),
            )
        )


def _is_experts(module: nn.Module) -> bool:
    """Whether the module's forward goes through transformers' experts interface."""
    return hasattr(module, "_is_expert_parallel") and hasattr(module, "has_gate")


def _recording_experts(
    experts: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """An experts implementation: bit for bit what `grouped_mm` returns, and recorded.

    Each (token, expert) pair becomes a token of its own with one expert and weight 1, so that the
    stock implementation, whatever it does with biases, gates and layouts, hands out un-weighted
    outputs; weighting and adding up then repeat its last lines.

    Args:
        experts: the module.
        hidden_states: [T, H].
        top_k_index: [T, k].
        top_k_weights: [T, k].

    Returns:
        [T, H].
    """
    recorder, tap = getattr(experts, _RECORDER)
    count, k = top_k_index.shape
    one = top_k_weights.new_ones(count * k, 1, dtype=hidden_states.dtype)
    outputs: Tensor = grouped_mm_experts_forward(
        experts, hidden_states.repeat_interleave(k, dim=0), top_k_index.reshape(-1, 1), one
    )
    weighted = outputs * top_k_weights.reshape(-1, 1)
    routed = weighted.view(count, k, -1).sum(dim=1)
    norms = torch.linalg.vector_norm(outputs, dim=-1, dtype=torch.float32).view(count, k)
    recorder.record(tap, top_k_index, top_k_weights, norms, routed)
    return routed.to(hidden_states.dtype)


def _watch_residual(layer: nn.Module, block: nn.Module, tap: _Tap, undo: ExitStack) -> None:
    """Let `tap` know the residual stream before the block, and check that it is the one.

    The block's input is the output of a norm; that norm's input is the residual stream h. No
    name is needed: of the layer's children, it is the one whose output is the very tensor that
    the block gets. Where the layer's own output is not h + block(...), the family adds something
    else to its residual stream and the record would be wrong.
    """
    seen: dict[str, Tensor] = {}

    def after_child(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            seen.update(input=args[0], output=output)

    def before_block(module: nn.Module, args: tuple[Any, ...]) -> None:
        if seen.get("output") is args[0]:
            tap.residual = seen["input"].reshape(-1, seen["input"].shape[-1])

    def after_block(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen["block"] = output[0] if isinstance(output, tuple) else output

    def after_layer(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        out = output[0] if isinstance(output, tuple) else output
        if not tap.checked and tap.residual is not None:
            added = tap.residual.view_as(out) + seen["block"].view_as(out)
            if not torch.equal(added, out):
                raise ObservationError(
                    f"layer {tap.index} ({type(layer).__name__}) does not add its MoE block's "
                    "output to the residual stream before it; easyep cannot observe this family yet"
                )
            tap.checked = True
        seen.clear()
        tap.residual = None

    for child in layer.children():
        if child is not block:
            undo.callback(child.register_forward_hook(after_child).remove)
    undo.callback(block.register_forward_pre_hook(before_block).remove)
    undo.callback(block.register_forward_hook(after_block).remove)
    undo.callback(layer.register_forward_hook(after_layer).remove)
