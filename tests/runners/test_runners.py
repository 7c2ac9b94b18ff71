"""Which runner is taken, and that the whole way works with both."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from easyep import memory, pipeline
from easyep.artifacts import Observations
from easyep.calibration import calibrate
from easyep.cli import app
from easyep.errors import UnsupportedModelError
from easyep.recipe import Recipe
from easyep.runner_names import RUNNERS
from easyep.runners import choosing, runner_class
from easyep.runners.choosing import choose_runner
from easyep.runners.memory import Memory
from easyep.source import Source


@pytest.mark.parametrize(("room", "expected"), [(10**12, "memory"), (100_000, "stream")])
def test_what_does_not_fit_is_streamed(
    room: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: room)
    chosen = choose_runner(Recipe(model="demo", device="cpu"), Source.open("demo"))
    assert chosen.name == expected


@pytest.mark.parametrize(("limit", "expected"), [("1GB", "memory"), ("5MB", "stream")])
def test_what_may_not_fit_is_streamed(limit: str, expected: str) -> None:
    recipe = Recipe(model="demo", device="cpu", max_memory=limit)  # type: ignore[arg-type]
    assert choose_runner(recipe, Source.open("demo")).name == expected


@pytest.mark.parametrize(
    ("runner", "mtp", "observed"),
    [
        ("memory", "auto", True),
        ("stream", "auto", True),
        ("stream", "score", True),
        ("stream", "follow", False),
        ("deepspeed", "auto", False),
    ],
)
def test_who_observes_mtp_layers(
    runner: str, mtp: str, observed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a model whose MTP layer transformers passes over in silence."""
    monkeypatch.setattr(Source, "mtp_mode", lambda self, asked: {"auto": "score"}.get(asked, asked))
    source = Source.open("demo")
    run = runner_class(runner)(Recipe("demo", mtp=mtp), source).run("math", ())
    assert run.mtp_layers == (source.layout.mtp_layers if observed else ())


def test_scored_mtp_layers_are_not_run_by_deepspeed() -> None:
    for runner in ("memory", "stream"):
        recipe = Recipe(model="demo", runner=runner, mtp="score")
        assert choose_runner(recipe, Source.open("demo")).name == runner
    recipe = Recipe(model="demo", runner="deepspeed", mtp="score")
    with pytest.raises(UnsupportedModelError, match="choose --mtp follow"):
        choose_runner(recipe, Source.open("demo"))


def test_memory_is_known_here() -> None:
    assert 0 < memory.available() < memory.UNKNOWN


def test_every_runner_has_its_words_in_a_plan() -> None:
    for name in RUNNERS:
        kind = runner_class(name)
        assert kind.name == name
        assert kind.how
        assert kind.each.format(read="1 GB", held="2 GB")


class Eager(Memory):
    """One of somebody else's: all that it takes."""

    name = "eager"
    how = ", run whole, with eager attention"

    def load(self) -> Any:
        model = super().load()
        model.set_attn_implementation("eager")
        return model


def test_a_runner_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNNERS._things, "eager", f"{__name__}:Eager")
    asked = {"domain": "math", "n_demos": 4, "mtp": "follow", "dtype": "float32", "device": "cpu"}
    own = pipeline.prune("demo", output=tmp_path / "own", runner="eager", **asked)
    usual = pipeline.prune("demo", output=tmp_path / "usual", runner="memory", **asked)
    assert own.observations[0].runner == "eager"
    assert own.selection.layers == usual.selection.layers
    words = ["prune", "--model", "demo", "--domain", "math", "--runner", "eager", "--dry-run"]
    assert "run whole, with eager attention" in CliRunner().invoke(app, words).output


def test_what_a_runner_s_name_leads_to_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNNERS._things, "mine", "json:loads")
    recipe = Recipe(model="demo", runner="mine")
    with pytest.raises(UnsupportedModelError, match="json:loads is no runner"):
        choose_runner(recipe, Source.open("demo"))
    monkeypatch.setitem(RUNNERS._things, "mine", "easyep.runners.memory:Memory")
    with pytest.raises(UnsupportedModelError, match="calls itself 'memory', not 'mine'"):
        choose_runner(recipe, Source.open("demo"))
    monkeypatch.setitem(RUNNERS._things, "mine", "easyep.runners.whole:Whole")
    with pytest.raises(
        UnsupportedModelError, match=r"it lacks \['name', 'how', 'each', 'load', 'sh"
    ):
        choose_runner(recipe, Source.open("demo"))


def test_every_runner_chooses_the_same_experts(tmp_path: Path) -> None:
    """All but deepspeed, which a launcher starts: `tests/observation/test_partitioned.py`."""
    chosen = {
        runner: pipeline.prune(
            "demo",
            output=tmp_path / runner,
            domain="math",
            n_demos=4,
            runner=runner,
            mtp="follow",
            dtype="float32",
            device="cpu",
        )
        for runner in RUNNERS
        if runner != "deepspeed"
    }
    one = chosen.pop("memory")
    for runner, other in chosen.items():
        assert other.observations[0].runner == runner
        assert one.selection.layers == other.selection.layers
        for layer, record in one.observations[0].layers.items():
            mine = other.observations[0].layers[layer]
            assert np.array_equal(mine.expert_ids, record.expert_ids)
            np.testing.assert_allclose(mine.output_norms, record.output_norms, rtol=1e-4)


@pytest.mark.parametrize("records", ["full", "none"])
def test_a_streaming_run_that_was_cut_short_goes_on(
    tmp_path: Path, records: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from easyep.observation.weights.partial import PartialModel

    choices = {"domain": "math", "n_demos": 3, "mtp": "drop", "device": "cpu"}
    choices |= {"runner": "stream", "records": records}
    whole = pipeline.observe("demo", output=tmp_path / "whole", **choices)
    loaded: list[int] = []
    original = PartialModel.load_layer

    def breaks(self: PartialModel, layer: int) -> None:
        loaded.append(layer)
        if layer == 3 and loaded.count(3) == 1:
            raise KeyboardInterrupt
        original(self, layer)

    monkeypatch.setattr(PartialModel, "load_layer", breaks)
    with pytest.raises(KeyboardInterrupt):
        pipeline.observe("demo", output=tmp_path / "cut", **choices)
    assert not (tmp_path / "cut").exists()
    pipeline.observe("demo", output=tmp_path / "cut", **choices)
    assert loaded == [0, 1, 2, 3, 3, 4]
    files = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert files == sorted(file.name for file in (tmp_path / "cut").iterdir())
    for name in files:
        if name.endswith(".safetensors"):
            assert (tmp_path / "cut" / name).read_bytes() == (
                tmp_path / "whole" / name
            ).read_bytes()
    assert whole.runner == "stream"
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    assert torch.is_inference_mode_enabled() is False


def test_a_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (memory.taken() + (1 << 40), 0))
    assert memory.available() < 1 << 40
    allowed = memory.of_this_process("VmData") + 5000
    monkeypatch.setattr(resource, "getrlimit", lambda which: (allowed, 0))
    assert memory.available() <= 5000
    assert memory.taken() > 10**7


@pytest.mark.parametrize(("version", "folder"), [(2, ""), (1, "memory")])
def test_file_contents_do_not_count_as_taken(tmp_path: Path, version: int, folder: str) -> None:
    names = {
        2: ("memory.max", "memory.current", "inactive_file"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }[version]
    group = tmp_path / folder
    group.mkdir(exist_ok=True)
    (group / names[0]).write_text("6000\n")
    (group / names[1]).write_text("5000\n")
    (group / "memory.stat").write_text(f"anon 1000\n{names[2]} 4000\n")
    assert memory.available(tmp_path) == 5000


@pytest.mark.parametrize("line", ["0::/jobs/own", "4:memory:/jobs/own"])
@pytest.mark.parametrize("limited", ["jobs/own", "jobs", ""])
def test_every_group_around_the_process_counts(tmp_path: Path, line: str, limited: str) -> None:
    first = "memory" in line
    limit, used = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if first
        else ("memory.max", "memory.current")
    )
    group = tmp_path / ("memory" if first else "") / limited
    group.mkdir(parents=True, exist_ok=True)
    (group / limit).write_text("6000\n")
    (group / used).write_text("5000\n")
    (group / "memory.stat").write_text("anon 1000\n")
    own = tmp_path / "cgroup"
    own.write_text(f"7:cpu,cpuacct:/elsewhere\n{line}\n")
    assert memory.available(tmp_path, own) == 1000
    own.write_text("7:cpu,cpuacct:/elsewhere\n0::/elsewhere\n")
    if limited:
        assert memory.available(tmp_path, own) > 6000


def test_a_control_group_without_a_limit_limits_nothing(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5000\n")
    assert memory.available(tmp_path) > 5000


@pytest.mark.parametrize(("room", "expected"), [(10**12, "run whole"), (10**5, "streamed")])
def test_the_plan_says_how_the_model_would_be_run(
    room: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "room", lambda device, max_memory: room)
    command = ["prune", "--model", "demo", "--domain", "math", "--device", "cpu", "--dry-run"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert expected in result.output


STREAMED = {"n_demos": 3, "mtp": "drop", "device": "cpu", "runner": "stream"}


@pytest.mark.parametrize("records", ["full", "none"])
def test_domains_in_one_pass_are_observed_as_one_by_one(
    tmp_path: Path, records: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from easyep.observation.weights.partial import PartialModel

    choices = {**STREAMED, "records": records}
    read: list[str] = []
    original = PartialModel.read_experts
    monkeypatch.setattr(
        PartialModel,
        "read_experts",
        lambda self, layer, ids: (
            read.extend(f"{layer}/{i}" for i in ids) or original(self, layer, ids)
        ),
    )
    recipe = Recipe("demo", domain=("math", "code"), **choices)
    told: dict[int, Any] = {}
    both = calibrate(
        recipe,
        Source.open("demo"),
        work_dir=tmp_path / "work",
        on_layer_finished=told.__setitem__,
    )
    assert len(read) == len(set(read))  # each expert once
    for number, domain in enumerate(["math", "code"]):
        alone = pipeline.observe("demo", domain=domain, output=tmp_path / domain, **choices)
        assert both[number].demos == alone.demos
        assert list(told) == sorted(alone.layers)
        folder = next((tmp_path / "work" / "observations").glob(f"{domain}-*"))
        for file in (tmp_path / domain).glob("*.safetensors"):
            assert (folder / file.name).read_bytes() == file.read_bytes()
        for layer in alone.layers:
            kept = told[layer][number]
            whole = alone.layers[layer] if alone.sums is None else alone.sums[layer]
            mine = kept.arrays if alone.sums is not None else kept.arrays()
            theirs = whole.arrays if alone.sums is not None else whole.arrays()
            assert mine.keys() == theirs.keys()
            assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_what_another_pass_remembered_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from easyep.observation.weights.partial import PartialModel

    loaded: list[int] = []
    original = PartialModel.load_layer

    def breaks(self: PartialModel, layer: int) -> None:
        loaded.append(layer)
        if layer == 3 and loaded.count(3) == 1:
            raise KeyboardInterrupt
        original(self, layer)

    def observed(*domains: str) -> list[Observations]:
        recipe = Recipe("demo", domain=domains, **STREAMED)  # type: ignore[arg-type]
        return calibrate(recipe, Source.open("demo"), work_dir=tmp_path)

    monkeypatch.setattr(PartialModel, "load_layer", breaks)
    with pytest.raises(KeyboardInterrupt):
        observed("math", "code")
    observed("math")  # other demonstrations were under way: from the beginning
    assert loaded == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    observed("math", "code")  # math is saved
    assert loaded[9:] == [0, 1, 2, 3, 4]
    observed("math", "code")
    assert len(loaded) == 14
