"""How the routed experts' sum gets from the experts to the residual stream."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from easyep.observation.calls import Call, rows

Factor = float | Tensor  # one number, or one per channel [H]

# A residual stream is what goes into a module, by its place among the tensors that do; None is the
# block's own input.
Stream = tuple[nn.Module, int] | None


@dataclass(frozen=True)
class Step:
    """A module that the routed sum passes.

    Attributes:
        module: the module.
        linear: whether it gives each summand its own share, as a convolution does; a norm
            multiplies all of its input by numbers that depend on the whole.
    """

    module: nn.Module
    linear: bool

    def share(self, call: Call, routed: Tensor) -> Tensor:
        """The routed experts' share [T, H] of what the module gave."""
        if self.linear:
            return rows(call.again(routed), routed.shape[-1])
        source, result = call.source, call.results[0]
        assert source is not None
        factor = result.float() / source.float()
        return routed * rows(factor.nan_to_num(0.0, 0.0, 0.0), routed.shape[-1])


@dataclass(frozen=True)
class Path:
    """The way from one layer's experts to its residual stream.

    Attributes:
        stream: where the residual stream h can be seen.
        factor: the number by which the block scales its experts' sum: part of their weights.
        projection: leads from the experts' own space into that of the stream.
        steps: what the block's output passes before it is added.
        stream_factor, added_factor: the layer gives stream_factor * h + added_factor * r, and
            what does not come from the routed experts.
    """

    stream: Stream
    factor: float = 1.0
    projection: nn.Module | None = None
    steps: tuple[Step, ...] = ()
    stream_factor: Factor = 1.0
    added_factor: Factor = 1.0

    @property
    def modules(self) -> set[nn.Module]:
        """The modules whose calls must be seen in every pass."""
        modules = {step.module for step in self.steps}
        modules |= {self.stream[0]} if self.stream is not None else set()
        return modules | ({self.projection} if self.projection is not None else set())

    def added(self, routed: Tensor, calls: Sequence[Call]) -> Tensor:
        """What the routed experts add to the stream, [T, H].

        Args:
            routed: the sum that the experts gave, [T, H] or as wide as their own space.
            calls: those of `modules` in this pass.
        """
        last = {call.module: call for call in calls}
        if self.projection is not None:
            routed = rows(last[self.projection].results[0])
        routed = scaled(routed, self.factor)
        for step in self.steps:
            routed = step.share(last[step.module], routed)
        return routed


def scaled(values: Tensor, factor: Factor) -> Tensor:
    """`values`, times `factor` where that is another number than 1."""
    return values if isinstance(factor, float) and factor == 1.0 else values * factor


def one_stream(stream: Tensor, width: int, tokens: int) -> Tensor:
    """[T, H] from one stream, or the mean of several that lie beside each other."""
    streams = stream.reshape(tokens, -1, width)
    return streams[:, 0] if streams.shape[1] == 1 else streams.mean(dim=1)
