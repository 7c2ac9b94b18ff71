"""Batches for one training process, made ahead where the network is faster than they are."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import torch
from tokenizers import Tokenizer

from easyep.demo_model import batches, tokenizer
from easyep.demo_model.batches import Batch

AHEAD = 4
"""Steps that are made ahead, per process that makes them."""

_tokenizer: Tokenizer | None = None


def feed(
    directory: Path, seed: int, streams: Sequence[int], steps: range, workers: int = 0
) -> Iterator[Batch]:
    """One batch per step: that of each stream, joined.

    Args:
        directory: where the tokenizer lies.
        seed: of the run.
        streams: numbers of the streams; with the step they decide the text.
        steps: which steps.
        workers: processes that make batches ahead; 0 makes each when it is asked for.
    """
    if not workers:
        _start(directory)
        for step in steps:
            yield _make(seed, streams, step)
        return
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start, (directory,)
    ) as pool:
        pending: deque[Future[Batch]] = deque()
        for step in steps:
            pending.append(pool.submit(_make, seed, streams, step))
            if len(pending) > AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _start(directory: Path) -> None:
    global _tokenizer
    torch.set_num_threads(1)
    _tokenizer = tokenizer.load(directory)


def _make(seed: int, streams: Sequence[int], step: int) -> Batch:
    assert _tokenizer is not None
    return batches.join([batches.batch(_tokenizer, seed, stream, step) for stream in streams])
