"""What a plan says that each of several processes reads and holds."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import easyep
from easyep import stream_probe
from easyep.cli import app
from easyep.errors import NotFirstRankError
from easyep.launcher import Rank
from easyep.observing import tell_how
from easyep.progress import SILENT
from easyep.recipe import Recipe
from easyep.runner_names import RUNNERS
from easyep.runners import Share, runner_class
from easyep.source import Source
from easyep.stream_plan import plan_stream
from easyep.stream_probe import Speeds, forecast
from easyep.weighing import weight_bytes
from tests.ranks import run_ranks
from tests.test_stream_plan import run_of
from tests.tiny_models import build

SECOND = Rank(1, 4, 1, 2)


def test_shares_are_those_of_the_files(tmp_path: Path) -> None:
    run = run_of(build("deepseek_v3", tmp_path / "m", mtp=1), 10, 30)
    source, plan = run.source, plan_stream([run], 10**10)
    tensors = source.checkpoint.tensors
    recipe = Recipe(model="m", dtype="bfloat16")
    expected = {"stream": forecast([run], plan, Speeds(1.0, 1.0, 1.0), SECOND)}
    each = {
        name: runner_class(name)(recipe, source).share(4, expected.get(name)) for name in RUNNERS
    }
    whole = sum(tensor.nbytes for tensor in tensors.values())  # float32
    mtp = sum(tensor.nbytes for name, tensor in tensors.items() if ".layers.3." in name)
    layer = sum(tensor.nbytes for name, tensor in tensors.items() if ".layers.2." in name)
    assert mtp > layer > 0
    assert each["memory"] == Share(4, whole, weight_bytes(source.checkpoint, "bfloat16"))
    assert each["deepspeed"] == Share(4, whole - mtp, -(-(whole - mtp) // 8) + layer // 2)
    assert each["stream"] == Share(4, -(-plan.to_read // 4), plan.memory)


def test_several_processes_share_reading_and_experts(tmp_path: Path) -> None:
    run = run_of(build("qwen3_moe", tmp_path / "m"), 10, 30)
    plan, speeds = plan_stream([run], 10**10), Speeds(1.0, 1.0, 1.0)
    one, four = (forecast([run], plan, speeds, here) for here in (Rank(), SECOND))
    assert four.reading == one.reading / 2  # two on each of two machines
    assert four.dequantising == plan.dense + plan.routed / 4
    dense = 2 * 40 * plan.dense / plan.number_bytes
    assert four.computing - dense == pytest.approx((one.computing - dense) / 4)


@pytest.mark.parametrize("runner", ["memory", "stream", "deepspeed"])
def test_a_dry_run_is_the_first_process_s(runner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_probe, "_SECONDS", 0.03)
    source = Source.open("demo")
    command = ["prune", "--model", "demo", "--domain", "math", "--mtp", "auto", "--runner", runner]

    def work(number: int) -> Any:
        if number:
            return easyep.plan("demo", domain="math", runner=runner)
        shown = CliRunner().invoke(app, [*command, "--dry-run", "--json"])
        return json.loads(shown.stdout)["processes"]

    facts, other = run_ranks(2, work)
    assert isinstance(other, NotFirstRankError)
    assert facts["processes"] == 2
    reads = facts["reads"] / source.checkpoint.nbytes
    assert {"memory": reads == 1, "deepspeed": 0.5 < reads < 1, "stream": reads < 0.5}[runner]
    assert facts["holds"] > 0


def test_it_is_told_in_words() -> None:
    def work(number: int) -> str:
        words = ["prune", "--model", "demo", "--domain", "math", "--dry-run"]
        return CliRunner().invoke(app, [*words, "--runner", "memory"]).output

    first, _ = run_ranks(2, work)
    assert "each of 2 processes" in first
    assert "holds the whole model" in first


@pytest.mark.parametrize(
    ("runner", "size", "expected"),
    [
        ("memory", 1, []),
        ("memory", 3, ["3 processes run, each its share of the demonstrations"]),
        ("deepspeed", 1, ["layer 5 is not observed by the runner deepspeed"]),
        ("stream", 2, ["2 processes run, each its share of each layer's experts"]),
    ],
)
def test_how_it_is_run_is_said(runner: str, size: int, expected: list[str]) -> None:
    said: list[str] = []
    heard = SimpleNamespace(task=SILENT.task, say=said.append)
    group: Any = SimpleNamespace(here=Rank(0, size, 0, size))
    made = runner_class(runner)(Recipe(model="demo", mtp="score"), Source.open("demo"), group)
    tell_how(made.run("math", ()), made, heard)
    assert len(said) == len(expected)
    for part, sentence in zip(expected, said, strict=True):
        assert part in sentence
