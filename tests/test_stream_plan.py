"""What streaming takes, against what the files have."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from easyep import memory, pipeline, planning, stream_plan, streams
from easyep.artifacts import TokenSequence
from easyep.errors import ObservationError
from easyep.recipe import Recipe
from easyep.runners import stream as stream_runner
from easyep.runs import Run
from easyep.source import Source
from easyep.stream_plan import check_device, plan_stream, room_for
from tests.tiny_models import build


def run_of(path: Path | str, *lengths: int) -> Run:
    sequences = tuple(TokenSequence(np.arange(n) % 50, np.zeros(n, bool)) for n in lengths)
    return Run(Recipe(str(path)), Source.open(path), "d", sequences, (), "stream")


def test_the_parts_are_those_of_the_files(tmp_path: Path) -> None:
    path = build("qwen3_moe", tmp_path / "m")  # float32
    run = run_of(path, 10, 30)
    tensors = run.source.checkpoint.tensors
    plan = plan_stream([run], 10**10)
    embeddings = tensors["model.embed_tokens.weight"].nbytes
    norm = tensors["model.norm.weight"].nbytes
    layer = sum(t.nbytes for n, t in tensors.items() if ".layers.1." in n and "experts." not in n)
    assert plan.outside == embeddings + norm
    assert plan.layer == layer
    halved = plan_stream([replace(run, recipe=replace(run.recipe, dtype="bfloat16"))], 10**10)
    assert halved.outside == 1.5 * (embeddings + norm)  # what is read, and what it becomes
    head = sum(t.nbytes for n, t in tensors.items() if n == "lm_head.weight")
    assert plan.to_read == run.source.checkpoint.nbytes - head
    assert plan.experts == stream_plan.EXPERTS
    assert plan.to_spill == 0


def test_what_has_no_room_is_spilled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_plan, "EXPERTS", 0)
    run = run_of(build("qwen3_moe", tmp_path / "m"), *[1000] * 50)
    large = plan_stream([run], 10**11)
    small = plan_stream([run, run], large.memory - stream_plan.BASE)
    assert small.waiting == 2 * large.waiting
    assert small.to_spill == large.waiting
    assert small.memory == large.memory
    with pytest.raises(ObservationError, match="--max-length"):
        plan_stream([run], 10**6)


def test_a_limit_is_the_process_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 10**10)
    monkeypatch.setattr(memory, "taken", lambda: 10**9)
    assert room_for(Recipe("m")) == 11 * 10**9
    assert room_for(Recipe("m", max_memory="2GB")) == 2 * 10**9  # type: ignore[arg-type]


def test_a_limit_of_a_gpu_holds_or_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(build("qwen3_moe", tmp_path / "m"), 1000, 1000)
    plan = plan_stream([run], 10**10)
    assert plan.on_device == plan.work + plan.layer + plan.experts + plan.waiting
    enough = Recipe("m", max_memory=f"0={plan.on_device}")  # type: ignore[arg-type]
    small = Recipe("m", max_memory=f"0={plan.on_device - 1}")  # type: ignore[arg-type]
    for device in ("cpu", "cuda", "cuda:1"):
        monkeypatch.setattr(stream_plan, "usable_device", lambda _, d=device: torch.device(d))
        check_device(plan, enough)
        if device == "cuda":
            with pytest.raises(ObservationError, match=r"streaming on cuda .* --device cpu"):
                check_device(plan, small)
        else:
            check_device(plan, small)


def test_a_limited_run_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from easyep.observation import spilling

    choices = {"domain": "math", "n_demos": 3, "mtp": "drop", "device": "cpu", "runner": "stream"}
    pipeline.observe("demo", output=tmp_path / "free", **choices)  # type: ignore[arg-type]
    written: list[int] = []
    original = spilling.Spill._write

    def spy(self: spilling.Spill, storage: torch.UntypedStorage) -> int:
        written.append(storage.nbytes())
        return original(self, storage)

    monkeypatch.setattr(spilling.Spill, "_write", spy)
    monkeypatch.setattr(spilling, "SMALLEST", 1)
    monkeypatch.setattr(
        streams, "plan_stream", lambda runs, room: replace(plan_stream(runs, room), budget=0)
    )
    pipeline.observe("demo", output=tmp_path / "limited", **choices)  # type: ignore[arg-type]
    assert written
    for file in (tmp_path / "free").glob("*.safetensors"):
        assert (tmp_path / "limited" / file.name).read_bytes() == file.read_bytes()


def test_a_dry_run_plans_with_the_room_that_a_run_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though less is loaded when it does."""
    rooms: list[int] = []

    def spy(runs: Sequence[Run], room: int) -> stream_plan.StreamPlan:
        rooms.append(room)
        return plan_stream(runs, room)

    taken = iter(range(200_000_000, 600_000_000, 50_000_000))
    monkeypatch.setattr(memory, "taken", lambda: next(taken))
    for module in (streams, stream_runner):
        monkeypatch.setattr(module, "plan_stream", spy)
    choices = {"domain": "math", "n_demos": 1, "runner": "stream", "max_memory": "2GB"}
    planning.plan("demo", **choices)  # type: ignore[arg-type]
    pipeline.observe("demo", **choices)  # type: ignore[arg-type]
    assert rooms == [2_000_000_000 - stream_plan.BASE] * 2
