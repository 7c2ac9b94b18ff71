"""One chunk is read while another is used, in order, and no further ahead."""

import threading

import pytest
import torch
from torch import Tensor

from easyep.errors import CheckpointError
from easyep.observation.reading_ahead import read_ahead

CPU = torch.device("cpu")


def test_the_next_chunk_is_read_beside_and_no_other() -> None:
    begun = [threading.Event() for _ in range(4)]

    def read(chunk: int) -> dict[str, Tensor]:
        begun[chunk].set()
        return {"weight": torch.full((2,), float(chunk))}

    for chunk, weights in read_ahead(range(4), read, CPU):
        assert weights["weight"].tolist() == [chunk, chunk]
        if chunk < 3:
            assert begun[chunk + 1].wait(5)
        assert not any(event.is_set() for event in begun[chunk + 2 :])


def test_an_error_comes_where_its_chunk_would() -> None:
    def read(chunk: int) -> dict[str, Tensor]:
        if chunk == 1:
            raise CheckpointError("the disk is gone")
        return {}

    before = threading.active_count()
    chunks = read_ahead(range(3), read, CPU)
    assert next(chunks)[0] == 0
    with pytest.raises(CheckpointError, match="the disk is gone"):
        next(chunks)
    assert threading.active_count() == before


def test_nothing_to_read() -> None:
    assert list(read_ahead([], lambda chunk: {}, CPU)) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_what_is_used_is_there() -> None:
    device = torch.device("cuda")
    sizes = list(range(1, 40))

    def read(chunk: int) -> dict[str, Tensor]:
        host = torch.full((chunk << 18,), chunk, dtype=torch.float32, pin_memory=True)
        return {"weight": host.to(device, non_blocking=True).mul(2)}

    found = [float(w["weight"].sum() / (n << 18)) for n, w in read_ahead(sizes, read, device)]
    assert found == [2.0 * n for n in sizes]
