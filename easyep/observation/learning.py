"""Finds out how a layer's routed experts reach its residual stream, from what the layer computes.

Most families add their MoE block's output to the residual stream before it: out = h + block(x).
Others scale the sum or the stream, norm the block's output, add a parallel branch, or mix several
streams. No family is named here. In the first pass through a layer the candidates are found by
their memory: the module whose output is the very tensor that the block gets is the norm, and its
input is h. Which of them it is, and with which factors, the layer's own output tells.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from easyep.observation.calls import Call, rows, same_memory
from easyep.observation.path import Factor, Path, Step, Stream

# To learn from; each is one equation per channel, with at most three unknowns. Few, since to run a
# short text takes longer per token: every expert that it reaches must come from memory.
ENOUGH_TOKENS = 16
_NEAR_ONE = 1e-3


class UnexplainedError(Exception):
    """A layer's output is not what any known way gives."""


def candidates(calls: Sequence[Call], inputs: Tensor, named: Stream) -> dict[Stream, Tensor]:
    """Where the residual stream before a block may be, the likeliest first.

    Args:
        calls: those of the layer's modules before the block, in order.
        inputs: what the block gets.
        named: the stream, where it is known.
    """
    if named is not None:
        module, place = named
        return {named: next(call for call in calls if call.module is module).sources[place]}
    found: dict[Stream, Tensor] = {}
    for call in calls:
        if any(same_memory(result, inputs) for result in call.results):
            for place, source in enumerate(call.sources):
                # As large as the block's input, or several streams of that size.
                if not source.numel() % inputs.numel() and not same_memory(source, inputs):
                    found[call.module, place] = source
            if found:
                break
    for source in list(found.values())[:1]:  # and what that was made from, one module further back
        for call in calls:
            if any(same_memory(result, source) for result in call.results):
                for place, earlier in enumerate(call.sources):
                    if earlier.numel() == inputs.numel() and not same_memory(earlier, source):
                        found[call.module, place] = earlier
    return {**found, None: inputs}


@dataclass(frozen=True)
class Pass:
    """One pass through one layer, as far as it matters here.

    Attributes:
        streams: the candidates for h, the likeliest first.
        routed: the sum that the experts gave.
        inside: calls of the block's submodules, after the experts.
        silenced: the same block's calls, the block itself last, with experts that give zeros.
        block: the block's call.
        children: calls of the layer's other children.
        output: what the layer gave.
        tokens: int64 [N], some tokens that are no padding.
    """

    streams: Mapping[Stream, Tensor]
    routed: Tensor
    inside: Sequence[Call]
    silenced: Sequence[Call]
    block: Call
    children: Sequence[Call]
    output: Tensor
    tokens: Tensor

    def sample(self, *tensors: Tensor) -> list[Tensor]:
        """Some tokens' rows of tensors of one width, float64 [N, H] each."""
        width = self.width
        return [rows(tensor, width)[self.tokens].double().cpu() for tensor in tensors]

    @property
    def width(self) -> int:
        """H."""
        return self.block.results[0].shape[-1]


def learn(seen: Pass, named: Stream = None) -> Path:
    """The path that explains a layer's output.

    Args:
        seen: a pass through the layer.
        named: the residual stream, where it is known: then the layer's output, in which the sum
            may join the stream later, need not be explained.

    Raises:
        UnexplainedError: none does.
    """
    routed, projection = seen.routed, None
    for call in seen.inside:
        if same_memory(call.source, seen.routed) and not same_memory(call.results[0], seen.routed):
            routed, projection = rows(call.results[0]), call.module
    own = next((call for call in seen.inside if _gives_output(call, seen, projection)), None)
    inner = [own] if own is not None else []
    factor = _block_factor(seen, routed, own)
    routed = routed * factor
    if named is not None:
        return Path(named, factor, projection, _steps(inner, routed))
    if seen.output.numel() != seen.block.results[0].numel():
        # Several streams: what the block reads, recombined to one, is taken for h.
        return Path(next(iter(seen.streams)), factor, projection, _steps(inner, routed))
    tolerance = max(_tolerance(seen.output.dtype), _tolerance(seen.block.results[0].dtype))
    fits = []
    for per_channel in (False, True):
        for stream, added, branches in _hypotheses(seen):
            out, h, *summands = seen.sample(seen.output, seen.streams[stream], *branches)
            fit = _fit(out, h, torch.stack(summands).sum(0), per_channel)
            if fit is not None and fit.error <= tolerance:
                fits.append((fit, stream, added))
        if fits:
            break
    if not fits:
        raise UnexplainedError
    best = min(fit.error for fit, _, _ in fits)
    # The first of those that are as good as the best: the others explain no more.
    fit, stream, added = next(found for found in fits if found[0].error <= 2 * best + 1e-7)
    steps = _steps([*inner, *added], routed)
    return Path(stream, factor, projection, steps, fit.stream, fit.added)


def _gives_output(call: Call, seen: Pass, projection: nn.Module | None) -> bool:
    """Whether a module inside of the block makes the block's output, as a norm at its end does."""
    return (
        call.module is not projection
        and same_memory(call.results[0], seen.block.results[0])
        and not same_memory(call.source, call.results[0])
        # Llama 4 adds its experts' sum to the shared expert's output in place.
        and torch.equal(rows(call.again()), rows(seen.block.results[0]))
    )


def _hypotheses(seen: Pass) -> Iterator[tuple[Stream, list[Call], list[Tensor]]]:
    """(where h may be, calls that may come between, what may be added to h)."""
    given = seen.block.results[0]
    parallel = [
        call.results[0]
        for call in seen.children
        if same_memory(call.source, seen.block.source) and call.results[0].numel() == given.numel()
    ]
    passed = [
        call
        for call in seen.children
        if same_memory(call.source, given) and not same_memory(call.results[0], seen.output)
    ]
    joined = [
        (before, call)
        for before in passed
        for call in seen.children
        if _is_sum(seen, call.source, before.results[0])
    ]
    for stream in seen.streams:
        yield stream, [], [given]
        for call in passed:
            yield stream, [call], [call.results[0]]
        for before, call in joined:
            yield stream, [before, call], [call.results[0]]
        if parallel:
            yield stream, [], [given, *parallel]


def _is_sum(seen: Pass, total: Tensor | None, part: Tensor) -> bool:
    """Whether `total` is `part` and the output of another of the layer's children."""
    others = [call.results[0] for call in seen.children if call.results[0].numel() == part.numel()]
    if total is None or total.numel() != part.numel():
        return False
    return any(
        torch.equal(total.reshape(-1), part.reshape(-1) + other.reshape(-1)) for other in others
    )


def _block_factor(seen: Pass, routed: Tensor, own: Call | None) -> float:
    """By how much the block scales its experts' sum, from its output without them."""
    silenced = {call.module: call for call in seen.silenced}
    if own is None:
        with_, without = seen.block.results[0], silenced[seen.block.module].results[0]
    else:
        with_, without = own.sources[0], silenced[own.module].sources[0]
    whole, rest, r = seen.sample(with_, without, routed)
    size = float(r.square().sum())
    if not size:
        return 1.0
    factor = float(((whole - rest) * r).sum()) / size
    error = torch.linalg.vector_norm(whole - rest - factor * r)
    if error > _tolerance(with_.dtype) * torch.linalg.vector_norm(whole):
        raise UnexplainedError
    return _near_one(factor)


@dataclass(frozen=True)
class _Fit:
    """out = stream * h + added * n, and what is left, relative to the size of out."""

    stream: Factor
    added: Factor
    error: float


def _fit(out: Tensor, h: Tensor, n: Tensor, per_channel: bool) -> _Fit | None:
    """The factors of h and n, all [T, H]; per channel, a constant may come in too."""
    factors: tuple[Factor, Factor]
    if not per_channel:
        matrix = torch.stack([h.flatten(), n.flatten()], dim=1)
        a, c = torch.linalg.lstsq(matrix, out.flatten()[:, None]).solution[:, 0].tolist()
        found = a * h + c * n
        factors = (_near_one(a), _near_one(c))
    else:
        if len(out) < 2 * 3:  # equations per channel; there are three unknowns
            return None
        matrix = torch.stack([h, n, torch.ones_like(h)], dim=-1).transpose(0, 1)  # [H, T, 3]
        solution = torch.linalg.lstsq(matrix, out.T[..., None]).solution  # [H, 3, 1]
        found = (matrix @ solution)[..., 0].T
        factors = (solution[:, 0, 0].float(), solution[:, 1, 0].float())
    error = torch.linalg.vector_norm(found - out) / torch.linalg.vector_norm(out)
    return _Fit(*factors, float(error))


def _steps(calls: Sequence[Call], routed: Tensor) -> tuple[Step, ...]:
    """What the calls' modules do to a summand of their input."""
    steps = []
    for call in calls:
        source, result = call.source, call.results[0].double()
        assert source is not None
        part = torch.zeros_like(source).copy_(routed.view_as(source))
        apart = call.again(part).double() + call.again(source - part).double()
        error = torch.linalg.vector_norm(apart - result)
        linear = bool(error <= 4 * _tolerance(source.dtype) * torch.linalg.vector_norm(result))
        steps.append(Step(call.module, linear))
        routed = steps[-1].share(call, routed)
    return tuple(steps)


def _near_one(value: float) -> float:
    return 1.0 if abs(value - 1) < _NEAR_ONE else value


def _tolerance(dtype: torch.dtype) -> float:
    """How far two right computations may be apart, relative to the size of the result."""
    return max(1e-5, torch.finfo(dtype).eps)
