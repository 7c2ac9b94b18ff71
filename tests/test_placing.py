"""What of a model goes where, and that what is elsewhere is observed all the same."""

import gc
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from easyep import memory, placing
from easyep.loading import load_model
from easyep.observation.in_memory import observe_in_memory
from easyep.observation.multi_token import load_mtp
from easyep.placing import own_accelerators, placement, room, usable_device
from easyep.resources import demo_model
from tests.observation.test_recorder import sequence
from tests.tiny_models import build


def test_records_of_a_model_that_lies_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    whole = load_model(demo_model(), dtype="float32", device="cpu")
    most = load_model(demo_model(), dtype="float32", device="cpu", max_memory={"cpu": 5_000_000})
    places = set(most.hf_device_map.values())
    assert places == {"cpu", "disk"}
    assert any(parameter.is_meta for parameter in most.parameters())
    demos = [sequence(length, whole.config.vocab_size, seed=length) for length in (40, 9)]
    expected = observe_in_memory(whole, demos, mtp=load_mtp(whole))
    found = observe_in_memory(most, demos, mtp=load_mtp(most))
    assert found.keys() == expected.keys()
    for layer, record in expected.items():
        assert np.array_equal(found[layer].expert_ids, record.expert_ids)
        for name in ("weights", "output_norms", "residual_shift"):
            mine, its = getattr(found[layer], name), getattr(record, name)
            np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-6 * its.max())
    assert list(tmp_path.glob("easyep-weights-*"))
    del most
    gc.collect()
    assert not list(tmp_path.glob("easyep-weights-*"))


@pytest.mark.parametrize("family", ["gpt_oss", "mixtral", "qwen2_moe"])
def test_other_families_on_the_disk(family: str, tmp_path: Path) -> None:
    path = build(family, tmp_path / "m")
    whole = load_model(path, dtype="float32", device="cpu")
    spread = load_model(path, dtype="float32", device="cpu", max_memory={"cpu": 20_000})
    assert "disk" in spread.hf_device_map.values()
    demos = [sequence(70, whole.config.vocab_size)]
    expected, found = observe_in_memory(whole, demos), observe_in_memory(spread, demos)
    for layer, record in expected.items():
        assert np.array_equal(found[layer].expert_ids, record.expert_ids)
        np.testing.assert_allclose(found[layer].output_norms, record.output_norms, rtol=1e-4)


def test_a_model_goes_onto_one_device_whole_where_nothing_is_said() -> None:
    assert placement("cpu", None) is None
    assert placement("cpu", {"0": 7}) is None
    assert placement("cpu", {"cpu": 7}) == {"device_map": "auto", "max_memory": {"cpu": 7}}


def test_processes_of_a_machine_share_its_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(local: int, local_size: int, accelerators: int) -> list[int]:
        found = {"RANK": local, "LOCAL_RANK": local}
        found |= {"WORLD_SIZE": local_size, "LOCAL_WORLD_SIZE": local_size}
        for name, value in found.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: accelerators)
        return own_accelerators()

    assert [own(i, 2, 8) for i in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [own(i, 3, 8) for i in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert [own(i, 4, 2) for i in range(4)] == [[0], [1], [0], [1]]


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_each_process_has_an_accelerator_of_its_own(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: there)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    assert usable_device("cuda") == there  # one process leaves the choice to torch
    for place, value in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2}.items():
        monkeypatch.setenv(place, str(value))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    expected = 0 if name == "cuda:0" else 2
    assert usable_device(name) == torch.device("cuda", expected)
    assert usable_device("cpu") == torch.device("cpu")


def test_accelerators_are_limited_and_main_memory_is_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placing, "usable_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(placing, "own_accelerators", lambda: [0, 1])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (1000 * (number + 1), 0))
    monkeypatch.setattr(memory, "available", lambda: 8000)
    assert placement("auto", None) == {
        "device_map": "auto",
        "max_memory": {"cpu": 8000, 0: 850, 1: 1700},
    }
    assert placement("cuda", {"0": 10, "cpu": 20}) == {
        "device_map": "auto",
        "max_memory": {"cpu": 20, 0: 10},
    }
    assert room("auto", None) == 3000
    assert room("auto", {"1": 500}) == 1500
    assert room("cuda", None) == 1000
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", "2")
    assert placement("auto", None)["max_memory"]["cpu"] == 4000
