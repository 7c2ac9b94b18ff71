"""Models whose code comes with the checkpoint: a ModuleList of experts, each a module.

Such code calls each expert with the rows of its tokens, weighs what comes back and adds it up, in
many different ways. Only what all of them have in common is used. Which rows are whose is seen
from their values: the code copies rows of the block's input, and equal rows are routed alike. The
weights are those numbers g that explain the block's output, sum g e = block(x) - block(x) with
silent experts, found per token by least squares: H equations for k unknowns. Scale factors after
the experts are part of them.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from easyep.errors import ObservationError
from easyep.observation.calls import Call, first_tensor, rows
from easyep.observation.experts import Routes, Tap

AT_ONCE = 256  # tokens whose outputs stand in float64 beside each other


class ModuleListWatcher:
    """An `nn.ModuleList` named `experts`."""

    def finds(self, name: str, module: nn.Module) -> bool:
        return isinstance(module, nn.ModuleList) and name.split(".")[-1] == "experts"

    def attach(self, block: nn.Module, experts: nn.Module, tap: Tap, undo: ExitStack) -> None:
        assert isinstance(experts, nn.ModuleList)
        seen: list[tuple[int, Tensor, Tensor]] = []

        def after_expert(number: int) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
                if tap.silent:
                    return torch.zeros_like(output)
                seen.append((number, rows(args[0]), rows(output)))
                return None

            return hook

        def after_block(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if tap.silent:
                return
            call = Call(module, args, kwargs, output)
            with tap.silence():
                rest = call.again()
            inputs = first_tensor((*args, *kwargs.values()))
            assert inputs is not None
            given = rows(call.results[0], inputs.shape[-1])
            routed = given.float() - rows(rest, inputs.shape[-1]).float()
            try:
                tap.tell(_routes(rows(inputs), seen, routed, given))
            finally:
                seen.clear()

        for number, expert in enumerate(experts):
            undo.callback(expert.register_forward_hook(after_expert(number)).remove)
        hook = block.register_forward_hook(after_block, with_kwargs=True)
        undo.callback(hook.remove)


def _routes(
    inputs: Tensor, seen: list[tuple[int, Tensor, Tensor]], routed: Tensor, given: Tensor
) -> Routes:
    """Routes of the block's tokens.

    Args:
        inputs: [T, H], what the block got.
        seen: expert, rows [n, H] that it got, rows that it gave.
        routed: [T, H], the sum of the experts' weighted outputs.
        given: [T, H], the block's output, which says how exact that sum can be.
    """
    whose: dict[bytes, list[int]] = {}
    for token, key in enumerate(_keys(inputs)):
        whose.setdefault(key, []).append(token)
    found: list[list[tuple[int, Tensor]]] = [[] for _ in range(len(inputs))]
    for expert, got, gave in seen:
        turn: dict[bytes, int] = {}
        for key, output in zip(_keys(got), gave, strict=True):
            if key not in whose:
                raise ObservationError(
                    "the experts read something else than rows of their block's input; easyep "
                    "cannot observe this model's own code"
                )
            tokens = whose[key]  # several where rows are equal: each comes once per expert
            token = tokens[turn.get(key, 0) % len(tokens)]
            turn[key] = turn.get(key, 0) + 1
            found[token].append((expert, output))
    k = max(1, *map(len, found))
    ids = torch.full((len(inputs), k), -1, dtype=torch.long)
    weights, norms = torch.zeros(ids.shape), torch.zeros(ids.shape)
    error = 0.0
    for first in range(0, len(inputs), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        outputs = torch.zeros(len(found[some]), k, inputs.shape[-1], dtype=torch.float64)
        for token, routes in enumerate(found[some]):
            for slot, (expert, output) in enumerate(routes):
                ids[first + token, slot] = expert
                outputs[token, slot] = output.double().cpu()
        wanted = routed[some].double().cpu()
        solution = _weights(outputs, wanted)
        weights[some], norms[some] = solution, torch.linalg.vector_norm(outputs, dim=-1)
        error += float(((solution[..., None] * outputs).sum(1) - wanted).square().sum())
    tolerance = max(1e-4, 4 * torch.finfo(given.dtype).eps)
    if error**0.5 > tolerance * torch.linalg.vector_norm(given.double()):
        raise ObservationError(
            "the block's output is not a weighted sum of its experts' outputs; easyep cannot "
            "observe this model's own code"
        )
    here = inputs.device
    return Routes(ids.to(here), weights.to(here), norms.to(here), routed)


def _weights(outputs: Tensor, routed: Tensor) -> Tensor:
    """The g [T, k] that bring sum g e next to r, for e [T, k, H] and r [T, H]; 0 where e is 0."""
    solution = torch.linalg.lstsq(outputs.transpose(1, 2), routed[..., None], driver="gelsd")
    weights: Tensor = solution.solution[..., 0]
    return weights


def _keys(tensor: Tensor) -> list[bytes]:
    """The bytes of every row."""
    values = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return [row.tobytes() for row in values]
