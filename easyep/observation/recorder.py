"""Records what the routed experts do while a transformers model runs.

The recorder watches the layers that it is given and hands each pass's records on. Who runs the
model, whole or layer by layer, and where its weights are, is not its concern: every forward pass
within `batch` is recorded, several at a time too, if each has a thread of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from easyep.artifacts import TokenSequence
from easyep.errors import ObservationError
from easyep.observation.device_record import Rows
from easyep.observation.tap import BATCH, Batch, LayerTap, Sink
from easyep.observation.watchers import find_experts, find_second


def check_work(
    model: nn.Module, recorders: Iterable["Recorder"], sequences: Sequence[TokenSequence]
) -> None:
    """Check that there is something to record.

    Raises:
        ObservationError: there is no demonstration, one has no tokens, or no experts are watched.
    """
    if not sequences or any(len(sequence) == 0 for sequence in sequences):
        raise ObservationError("there are no demonstrations to run, or one has no tokens")
    if not any(recorder.moe_layers for recorder in recorders):
        raise ObservationError(
            f"{type(model).__name__} has no routed experts that easyep knows how to watch"
        )


class Recorder:
    """Records RoutedTokens of every MoE layer while the model runs.

    Args:
        layers: layer index -> decoder layer; layers without routed experts are passed over. A
            second set in a layer is numbered behind all layers, in their order.
        sink: takes the record of each layer in each pass.
        stream: the submodule of a decoder layer whose input is the residual stream, where a
            family's architecture file names it; by default it is found out.
    """

    def __init__(
        self, layers: Mapping[int, nn.Module], sink: Sink, *, stream: str | None = None
    ) -> None:
        self._taps: dict[int, LayerTap] = {}
        for index, layer in layers.items():
            # Of several sets in one block the first is that of text (ERNIE 4.5 VL has another for
            # images, which demonstrations do not have).
            for experts, watcher in find_experts(layer)[:1]:
                self._taps[index] = LayerTap(index, layer, experts, watcher, sink, stream)
            for experts, second in find_second(layer):
                number = max(layers) + 1 + index
                tap = LayerTap(number, layer, experts, second, sink, second.stream)
                self._taps[number] = tap

    @property
    def moe_layers(self) -> list[int]:
        """The numbers of the sets of routed experts: layers, then second sets."""
        return sorted(self._taps)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within this context the layers record; after it they are as before."""
        with ExitStack() as undo:
            for tap in self._taps.values():
                tap.attach(undo)
            yield

    @contextmanager
    def batch(
        self,
        demos: Sequence[int],
        tokens: Sequence[TokenSequence],
        first: int,
        width: int,
        *,
        recorded: bool = True,
    ) -> Iterator[None]:
        """What the rows of the batch that this thread runs within this context are.

        Args:
            demos: the demonstrations' numbers, one per row.
            tokens: the demonstrations themselves.
            first: the position in its demonstration that a row's first token has.
            width: tokens per row, right padding included.
            recorded: whether the sink gets what the layers do; else they only find out how their
                experts reach the residual stream, which takes longer than a pass should.
        """
        valid = torch.zeros(len(demos), width, dtype=torch.bool)
        demo = torch.zeros(len(demos), width, dtype=torch.int32)
        response = torch.zeros(len(demos), width, dtype=torch.bool)
        for row, (number, sequence) in enumerate(zip(demos, tokens, strict=True)):
            length = max(0, len(sequence) - first)
            valid[row, :length] = True
            demo[row] = number
            response[row, :length] = torch.from_numpy(sequence.is_response[first:])
        rows = Rows(valid.reshape(-1), demo.reshape(-1), response.reshape(-1))
        before = BATCH.set(Batch(rows, recorded))
        try:
            yield
        finally:
            BATCH.reset(before)
