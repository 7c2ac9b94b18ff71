"""The next experts are read, dequantised and copied to the device while the last ones compute."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

Chunk = TypeVar("Chunk")
Weights = Mapping[str, Tensor]


class _Read(NamedTuple):
    """What was read, and what a GPU has to wait for before it uses it."""

    weights: Weights
    there: torch.cuda.Event | None


def read_ahead(
    chunks: Sequence[Chunk], read: Callable[[Chunk], Weights], device: torch.device
) -> Iterator[tuple[Chunk, Weights]]:
    """Each chunk with its weights; while it is used, a second thread reads the next one.

    On a GPU that thread's copies and products go through a stream of their own: they neither wait
    for what computes nor hold it up.

    Args:
        chunks: what is to be read, one after the other.
        read: reads a chunk onto the device.
        device: the device.

    Raises:
        EasyEPError: what `read` raises, where its chunk would come.
    """
    beside = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def work(chunk: Chunk) -> _Read:
        if beside is None:
            return _Read(read(chunk), None)
        with torch.cuda.stream(beside):
            weights = read(chunk)
            there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            there.record(beside)
            return _Read(weights, there)

    with ThreadPoolExecutor(max_workers=1) as reader:
        pending: Future[_Read] | None = None
        for index, chunk in enumerate(chunks):
            weights, there = (pending or reader.submit(work, chunk)).result()
            if there is not None:
                _hand_over(weights, there, device)
            following = chunks[index + 1 : index + 2]
            pending = reader.submit(work, following[0]) if following else None
            yield chunk, weights
            del weights  # before the next ones are taken


def _hand_over(weights: Weights, there: torch.cuda.Event, device: torch.device) -> None:
    """Let the stream that computes wait for the weights, and their memory for that stream."""
    computes = torch.cuda.current_stream(device)
    computes.wait_event(there)
    for weight in weights.values():
        weight.record_stream(computes)
