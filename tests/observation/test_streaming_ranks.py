"""Several processes stream one model: each reads its part, together once, and find the same."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import easyep
from easyep import pipeline
from easyep.artifacts import Observations
from easyep.errors import NotFirstRankError, PeerError
from easyep.observation.weights.partial import PartialModel
from easyep.observation.weights.reading import WeightReader
from easyep.runners import choosing
from tests.ranks import run_ranks
from tests.tiny_models import build

pytestmark = pytest.mark.slow

CHOICES: dict[str, Any] = {"domain": "math", "n_demos": 4, "device": "cpu", "runner": "stream"}
CHOICES |= {"mtp": "drop", "dtype": "float32"}


def assert_same(found: Observations, expected: Observations) -> None:
    """In order, and but for the order in which float32 sums were formed."""
    assert found.demos == expected.demos
    assert sorted(found.layers) == sorted(expected.layers)
    for layer, record in expected.layers.items():
        mine = found.layers[layer]
        for name in ("expert_ids", "demo", "is_response"):
            assert np.array_equal(getattr(mine, name), getattr(record, name)), (layer, name)
        for name in ("weights", "output_norms"):
            np.testing.assert_allclose(getattr(mine, name), getattr(record, name), rtol=1e-5)
        np.testing.assert_allclose(mine.residual_shift, record.residual_shift, rtol=1e-5, atol=1e-6)


class Counted:
    """Bytes that this process reads of the weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        close = WeightReader.close

        def counting(reader: WeightReader) -> None:
            self.bytes += reader.bytes_read
            close(reader)

        monkeypatch.setattr(WeightReader, "close", counting)


@pytest.mark.parametrize("size", [2, 3])
def test_each_reads_its_part_and_the_records_are_those_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    counted = Counted(monkeypatch)
    alone = pipeline.observe("demo", output=tmp_path / "one", **CHOICES)
    whole, counted.bytes = counted.bytes, 0

    def observe(number: int) -> int:
        try:
            pipeline.observe("demo", output=tmp_path / "many", **CHOICES)
        except NotFirstRankError:
            assert number > 0
        return counted.bytes

    read = run_ranks(size, observe)
    assert sum(read) == whole
    assert max(read) < 1.1 * whole / size
    assert_same(Observations.load(tmp_path / "many"), alone)


@pytest.mark.parametrize("family", ["deepseek_v3", "gpt_oss", "jetmoe"])
def test_families_that_store_experts_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    path = build(family, tmp_path / "m")
    demos = tmp_path / "demos.jsonl"
    demos.write_text('{"input_ids": [5, 9, 3, 17, 30, 8]}\n{"input_ids": [7, 2, 44]}\n')
    choices = {**CHOICES, "domain": None, "demos": demos}
    counted = Counted(monkeypatch)
    alone = pipeline.observe(path, output=tmp_path / "one", **choices)
    whole, counted.bytes = counted.bytes, 0

    def observe(number: int) -> int:
        try:
            pipeline.observe(path, output=tmp_path / "two", **choices)
        except NotFirstRankError:
            assert number > 0
        return counted.bytes

    assert sum(run_ranks(2, observe)) == whole
    assert_same(Observations.load(tmp_path / "two"), alone)


@pytest.mark.parametrize("size", [2, 3])
def test_in_bfloat16_sums_may_round_to_the_next_number(tmp_path: Path, size: int) -> None:
    choices = {**CHOICES, "dtype": "bfloat16"}
    alone = pipeline.observe("demo", output=tmp_path / "one", **choices)

    def observe(number: int) -> None:
        with suppress(NotFirstRankError):
            pipeline.observe("demo", output=tmp_path / "many", **choices)

    run_ranks(size, observe)
    many = Observations.load(tmp_path / "many")
    for layer, record in alone.layers.items():
        mine = many.layers[layer]
        assert np.array_equal(mine.expert_ids, record.expert_ids), layer
        for name in ("weights", "output_norms", "residual_shift"):
            found, its = getattr(mine, name), getattr(record, name)
            np.testing.assert_allclose(found, its, rtol=0.03, atol=3e-4 * its.max())
    scores, others = (easyep.score(each, criterion="easy-ep") for each in (alone, many))
    assert easyep.select(scores, keep=0.5).layers == easyep.select(others, keep=0.5).layers


@pytest.mark.parametrize("runner", ["stream", "memory"])
def test_two_processes_prune_as_one_does(tmp_path: Path, runner: str) -> None:
    choices = {**CHOICES, "runner": runner, "max_shard_size": 400_000}
    alone = pipeline.prune("demo", output=tmp_path / "one", **choices)

    def prune(number: int) -> Any:
        return pipeline.prune("demo", output=tmp_path / "two", **choices).selection

    first, second = run_ranks(2, prune)
    assert first == alone.selection
    assert isinstance(second, NotFirstRankError)
    written = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert len([name for name in written if name.endswith(".safetensors")]) > 1
    for name, content in written.items():
        if name != "easyep.json" or runner == "memory":  # sums in another order, else
            assert (tmp_path / "two" / name).read_bytes() == content, name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_run_that_was_killed_goes_on_with_more_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = pipeline.observe("demo", output=tmp_path / "one", **CHOICES)
    loaded: list[int] = []
    load = PartialModel.load_layer

    def observe(dies: int | None) -> list[int]:
        def loads(self: PartialModel, layer: int) -> None:
            loaded.append(layer)
            if layer == dies:
                os._exit(1)
            load(self, layer)

        monkeypatch.setattr(PartialModel, "load_layer", loads)
        with suppress(NotFirstRankError):
            pipeline.observe("demo", output=tmp_path / "cut", peer_timeout=20, **CHOICES)
        return loaded

    killed = run_ranks(2, lambda number: observe(3 if number == 0 else None))
    assert killed[0] is None
    assert isinstance(killed[1], PeerError)
    assert not (tmp_path / "cut").exists()
    assert run_ranks(3, lambda number: observe(None)) == [[3, 4]] * 3
    assert_same(Observations.load(tmp_path / "cut"), alone)
    assert not list(tmp_path.glob(".*"))


def test_all_end_when_one_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = PartialModel.read_experts

    def observe(number: int) -> None:
        def fails(self: PartialModel, layer: int, ids: Sequence[int]) -> Any:
            if number == 1 and layer == 2:
                raise OSError("the disk is gone")
            return read(self, layer, ids)

        monkeypatch.setattr(PartialModel, "read_experts", fails)
        pipeline.observe("demo", output=tmp_path / "out", peer_timeout=10, **CHOICES)

    first, second = run_ranks(2, observe)
    assert isinstance(second, OSError)
    assert isinstance(first, PeerError)
    assert "rank 1 on " in str(first)
    assert "finish its experts of layer 2" in str(first)


def test_what_does_not_fit_is_streamed_by_several_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "room", lambda device, max_memory: 10**5)
    choices = {**CHOICES, "runner": "auto", "n_demos": 1}

    def observe(number: int) -> str:
        return pipeline.observe("demo", output=tmp_path / "two", **choices).runner

    assert run_ranks(2, observe)[0] == "stream"
