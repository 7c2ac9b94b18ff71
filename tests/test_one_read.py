"""Layers that are copied while the model is streamed: the same files, with one read."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from easyep import one_read, pipeline
from easyep.architectures.spec import Architecture
from easyep.checkpoint import rewriting, verification
from easyep.checkpoint.copied import Copied
from easyep.observation.weights.partial import PartialModel
from easyep.recipe import Recipe
from easyep.source import Source
from tests.checkpoint.progress import Recorder
from tests.tiny_models import build

STREAMED = {
    "domain": "math",
    "n_demos": 3,
    "device": "cpu",
    "runner": "stream",
    "mtp": "drop",
    "max_shard_size": 400_000,
}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def two_stages(monkeypatch: pytest.MonkeyPatch, output: Path, **choices: Any) -> pipeline.Pruned:
    with monkeypatch.context() as patch:
        patch.setattr(one_read, "hindrance", lambda *_: one_read.NOT_STREAMED)
        return pipeline.prune("demo", output=output, **choices)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is done in which order: layers that are loaded, tensors that are written."""
    done: list[tuple[str, int]] = []
    load: Callable[..., None] = PartialModel.load_layer
    write: Callable[..., None] = rewriting.ShardWriter.write

    def loads(self: PartialModel, layer: int) -> None:
        done.append(("load", layer))
        load(self, layer)

    def writes(self: rewriting.ShardWriter, tensors: dict[str, Any], task: Any) -> None:
        done.append(("write", sum(map(len, tensors.values()))))
        write(self, tensors, task)

    monkeypatch.setattr(PartialModel, "load_layer", loads)
    monkeypatch.setattr(rewriting.ShardWriter, "write", writes)
    return done


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"mtp": "follow"},
        {"mtp": "score"},
        {"domain": ("math:0.3", "code"), "records": "none", "criterion": "reap"},
        {"protect": ("3:0,1", "5"), "forbid": ("2:9",), "groups": "flatten"},
        {"max_shard_size": 10**9, "tokens": "response"},
    ],
    ids=str,
)
def test_the_output_is_that_of_two_stages(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: list[tuple[str, int]],
    more: dict[str, Any],
) -> None:
    choices = {**STREAMED, **more}
    after = two_stages(monkeypatch, tmp_path / "after", **choices)
    assert [what for what, _ in written].count("write") == 1
    written.clear()
    early = pipeline.prune("demo", output=tmp_path / "early", **choices)
    assert early.selection == after.selection
    assert files(tmp_path / "early") == files(tmp_path / "after")
    assert early.verification.ok
    assert [check.name for check in early.verification.checks] == [
        check.name for check in after.verification.checks
    ]
    # Each layer's tensors are written before the next layer is loaded.
    layers = Source.open("demo").layout.moe_layers
    for layer in layers:
        place = written.index(("load", layer))
        assert written[place + 1][0] == "write"
        assert written[place + 1][1] > 0
    last = written[-1]
    assert last[0] == "write"
    assert sum(count for what, count in written if what == "write") == after.rewritten.tensors
    assert last[1] < after.rewritten.tensors / 4


def test_no_weight_file_is_read_again_to_verify_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    proofread = verification.proofread

    def watched(root: Path, names: Iterable[str], *rest: Any, **more: Any) -> Any:
        read.extend(names)
        return proofread(root, names, *rest, **more)

    monkeypatch.setattr(verification, "proofread", watched)
    pipeline.prune("demo", output=tmp_path / "out", **STREAMED)
    assert "config.json" in read
    assert not [name for name in read if name.endswith(".safetensors")]
    assert verification.verify(tmp_path / "out", Source.open("demo").model.path).ok
    assert [name for name in read if name.endswith(".safetensors")]


def test_what_was_cut_short_goes_on_with_its_finished_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.prune("demo", output=tmp_path / "whole", **STREAMED)
    load: Callable[..., None] = PartialModel.load_layer

    def breaks(self: PartialModel, layer: int) -> None:
        if layer == 4:
            raise KeyboardInterrupt
        load(self, layer)

    here = {**STREAMED, "work_dir": tmp_path / "work"}
    with monkeypatch.context() as patch:
        patch.setattr(PartialModel, "load_layer", breaks)
        with pytest.raises(KeyboardInterrupt, match="finished weight files are kept"):
            pipeline.prune("demo", output=tmp_path / "out", **here)
    assert not (tmp_path / "out").exists()
    (partial,) = tmp_path.glob(".out.partial-*")
    kept = {path.name: path.stat().st_mtime_ns for path in partial.rglob("*.safetensors")}
    again = pipeline.prune("demo", output=tmp_path / "out", **here)
    assert again.selection == whole.selection
    before, after = files(tmp_path / "whole"), files(tmp_path / "out")
    assert before == after
    same = [
        name for name, time in kept.items() if (tmp_path / "out" / name).stat().st_mtime_ns == time
    ]
    assert 0 < len(same) < len(whole.rewritten.shards)
    assert not list(tmp_path.glob(".out*"))


def test_what_was_chosen_too_early_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = two_stages(monkeypatch, tmp_path / "after", **STREAMED)
    decide = one_read.decide_layer

    def wrong_in_layer_3(*arguments: Any) -> tuple[int, ...]:
        chosen = decide(*arguments)
        others = set(range(after.selection.num_experts)) - set(chosen)
        return tuple(sorted(others))[: len(chosen)] if arguments[-1] == 3 else chosen

    monkeypatch.setattr(one_read, "decide_layer", wrong_in_layer_3)
    pruned = pipeline.prune("demo", output=tmp_path / "early", **STREAMED)
    assert pruned.verification.ok
    assert files(tmp_path / "early") == files(tmp_path / "after")


def test_verification_holds_what_was_copied_against_what_it_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def lies(folder: Path, source: Path, *, copied: dict[str, Copied], progress: Any) -> Any:
        name = max(copied, key=lambda each: len(copied[each].tensors))
        first, *others = copied[name].tensors
        swapped = Copied(copied[name].sha256, (*others, first))
        found = verify(folder, source, copied={**copied, name: swapped})
        seen.append(found.problems)
        return found

    verify = verification.verify
    monkeypatch.setattr(verification, "verify", lies)
    with pytest.raises(Exception, match="does not lie where it was written"):
        pipeline.prune("demo", output=tmp_path / "out", **STREAMED)
    assert not list(tmp_path.iterdir())
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"runner": "memory"}, "not streamed"),
        ({"criterion": "random"}, "not streamed"),
        ({"domain": ("math", "code"), "mix": "max-min"}, "max-min"),
        ({"protect": ("super-experts",)}, "super experts"),
        ({"criterion": "hope"}, "hope"),
    ],
    ids=str,
)
def test_where_it_cannot_be_done_it_says_why(more: dict[str, Any], why: str) -> None:
    recipe = Recipe("demo", **{**STREAMED, **more})
    assert why in one_read.hindrance(recipe, Source.open("demo"))


def test_where_it_cannot_be_done_two_stages_do_it(tmp_path: Path) -> None:
    progress = Recorder()
    choices = {**STREAMED, "protect": ("super-experts",)}
    pruned = pipeline.prune("demo", output=tmp_path / "out", progress=progress, **choices)
    assert pruned.verification.ok
    assert any("read again when it is rewritten: super experts" in each for each in progress.said)


def test_models_of_other_layouts_are_streamed_in_one_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [{"input_ids": [1 + (7 * i + j) % 60 for j in range(12)]} for i in range(3)]
    demos = tmp_path / "d.jsonl"
    demos.write_text("".join(json.dumps(each) + "\n" for each in ids))
    for family in ("gpt_oss", "deepseek_v3", "qwen3_moe"):
        path = build(family, tmp_path / family)
        choices = {"demos": demos, "runner": "stream", "device": "cpu", "mtp": "drop"}
        choices |= {"max_shard_size": 30_000}
        pruned = pipeline.prune(path, output=tmp_path / f"{family}-early", **choices)
        with monkeypatch.context() as patch:
            patch.setattr(one_read, "hindrance", lambda *_: one_read.NOT_STREAMED)
            pipeline.prune(path, output=tmp_path / f"{family}-after", **choices)
        assert pruned.verification.ok
        assert files(tmp_path / f"{family}-early") == files(tmp_path / f"{family}-after")


def test_mtp_layers_that_are_scored_by_default_are_planned_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Architecture, "is_silent_mtp", lambda self, layer: True)
    source, planned = Source.open("demo"), []
    plan = rewriting.plan
    monkeypatch.setattr(
        rewriting, "plan", lambda *args, **more: planned.append(plan(*args, **more)) or planned[-1]
    )
    recipe = Recipe(model="demo", **{**STREAMED, "mtp": "auto"})
    with one_read.begun(recipe, source, tmp_path / "out") as early:
        assert early is not None
    (first,) = planned
    assert (first.mtp, sorted(first.selection.layers)) == ("score", source.scored_layers("auto"))
    assert set(source.layout.mtp_layers) <= set(first.selection.layers)
