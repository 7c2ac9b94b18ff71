"""Several processes of one run, forked, so that none of them has to import torch again."""

import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What a launcher says on one machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def run_ranks(size: int, work: Callable[[int], Any]) -> Sequence[Any]:
    """What `work` gives or raises in each process, by rank; None for one that was killed."""
    context, port = multiprocessing.get_context("fork"), free_port()
    ends, processes = [], []
    for rank in range(size):
        mine, its = context.Pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside idle threads
            process = context.Process(target=_run, args=(work, rank, size, port, its))
            process.start()
        its.close()
        ends.append(mine)
        processes.append(process)
    found = []
    try:
        for end in ends:
            try:
                found.append(end.recv() if end.poll(SECONDS) else None)
            except EOFError:
                found.append(None)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return found


def _run(work: Callable[[int], Any], rank: int, size: int, port: int, answer: Any) -> None:
    os.environ.update(environment(rank, size, port))
    # torch makes its pool of threads anew after a fork, which two threads must not do at once, as
    # those that load weights would.
    torch.set_num_threads(torch.get_num_threads())
    try:
        answer.send(work(rank))
    except BaseException as error:
        traceback.print_exc()
        answer.send(error)
    os._exit(0)
