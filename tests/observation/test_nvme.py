"""Parameters that DeepSpeed keeps on NVMe."""

import gc
import importlib.util
import os
import shutil
import time
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from easyep.errors import MissingDependencyError, OutputError
from easyep.launcher import Rank
from easyep.observation import nvme
from easyep.observation.nvme import check_written, is_on_nvme, prepare_nvme
from tests.observation.test_partitioned import divided
from tests.observation.test_recorder import sequence
from tests.tiny_models import build

has_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)


def settings(folder: Path, **further: Any) -> dict[str, Any]:
    offload = {"device": "nvme", "nvme_path": str(folder), **further}
    return {"zero_optimization": {"stage": 3, "offload_param": offload}}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvme, "_load_writer", lambda: None)


def test_what_settings_ask_for(tmp_path: Path) -> None:
    assert is_on_nvme(settings(tmp_path))
    for offload in ({"device": "cpu"}, {}, None):
        assert not is_on_nvme({"zero_optimization": {"offload_param": offload}})


@pytest.mark.usefixtures("compiled")
def test_a_folder_of_its_own_and_buffers_that_are_large_enough(tmp_path: Path) -> None:
    model = nn.Linear(100, 33)
    given = settings(tmp_path, buffer_size=1000)
    mine = {**given}
    folder = prepare_nvme(mine, model, Rank(0, 2, 0, 2))
    assert given == settings(tmp_path, buffer_size=1000)
    offload = mine["zero_optimization"]["offload_param"]
    assert folder.parent == tmp_path
    assert offload["nvme_path"] == str(folder)
    assert offload["buffer_size"] == 1650
    del model
    gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("compiled")
def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three processes are on this machine: 2/3 of 13,332 bytes."""
    model = nn.Linear(100, 33)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    free = 8_888
    prepare_nvme(settings(tmp_path), model, Rank(0, 3, 0, 2))
    free = 8_887
    with pytest.raises(OutputError, match=r"are free; .* or start more processes"):
        prepare_nvme(settings(tmp_path), model, Rank(0, 3, 0, 2))


def test_parts_that_were_not_written(tmp_path: Path) -> None:
    device = Enum("device", {"nvme": "nvme", "cpu": "cpu"})
    model = nn.Linear(100, 100)
    for parameter, place in zip(model.parameters(), (device.nvme, device.cpu), strict=True):
        part: Any = torch.empty(1)
        part.ds_numel, part.final_location = parameter.numel(), place
        parameter.ds_tensor = part  # type: ignore[attr-defined]
    file = tmp_path / "rank0" / "0_param.tensor.swp"
    file.parent.mkdir()
    file.write_bytes(bytes([1]) * 40_000)
    os.sync()
    check_written(tmp_path, model)
    file.write_bytes(b"")
    os.truncate(file, 40_000)  # what a write that failed leaves: a file with a hole
    with pytest.raises(OutputError, match="instead of 40,000"):
        check_written(tmp_path, model)


@has_deepspeed
def test_what_cannot_be_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    from deepspeed.ops.op_builder import AsyncIOBuilder

    def load(self: object, verbose: bool) -> None:
        raise RuntimeError("Unable to JIT load the async_io op")

    monkeypatch.setattr(AsyncIOBuilder, "load", load)
    with pytest.raises(MissingDependencyError, match=r"the async_io op; install .*libaio-dev"):
        prepare_nvme(settings(tmp_path), nn.Linear(2, 2), Rank())
    assert not list(tmp_path.iterdir())


def is_compiled() -> bool:
    from torch.utils.cpp_extension import get_default_build_root

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR", get_default_build_root()))
    return any(root.rglob("async_io/async_io.so"))


@has_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_processes_record_what_they_do_without(tmp_path: Path, dtype: str) -> None:
    if not is_compiled():
        pytest.skip(
            "DeepSpeed's async_io is not compiled (docs/large-machines.md), minutes of work"
        )
    large = {"num_experts": 64, "hidden_size": 128, "moe_intermediate_size": 128}
    path = build("deepseek_v3", tmp_path / "m", dtype=dtype, shard_bytes=None, **large)
    demos = [sequence(length, 60, seed=length) for length in (70, 9, 30)]
    folder = tmp_path / "nvme"
    folder.mkdir()
    (expected, held, _), _ = divided(path, 2, demos, {}, dtype)
    (found, kept, whole), _ = divided(path, 2, demos, settings(folder), dtype)
    assert kept < 0.1 * held < 0.1 * whole  # most is on the disk
    assert found.keys() == expected.keys()
    for layer, record in expected.items():
        for name, array in record.arrays().items():
            assert np.array_equal(found[layer].arrays()[name], array), (layer, name)
    until = time.monotonic() + 10
    while list(folder.iterdir()):  # the processes ended without a word to Python
        assert time.monotonic() < until
        time.sleep(0.1)
