"""How long streaming would take."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from easyep import stream_probe
from easyep.cli import app
from easyep.runs import Run
from easyep.stream_plan import plan_stream
from easyep.stream_probe import Speeds, forecast, probe
from tests.checkpoint.test_quantised_logits import BLOCK, quantised, to_fp8
from tests.test_stream_plan import run_of
from tests.tiny_models import build


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_of(build("qwen3_moe", tmp_path / "m", shard_bytes=None), 10, 30)


def test_the_time_is_that_of_the_parts(run: Run) -> None:
    plan = plan_stream([run], 10**10)
    tensors = run.source.checkpoint.tensors
    inside = {n: t.nbytes // 4 for n, t in tensors.items() if ".layers." in n}
    routed = sum(n for name, n in inside.items() if "experts." in name)
    share = run.source.router.top_k / run.source.router.num_experts
    used = sum(inside.values()) - routed + routed * share
    found = forecast([run], plan, Speeds(reads=1000.0, dequantises=None, computes=1e6))
    assert found.reading == plan.to_read / 1000
    assert found.computing == pytest.approx(2 * 40 * used / 1e6)
    assert found.dequantising == 0
    assert found.seconds == max(found.reading, found.computing)
    slow = forecast([run], plan, Speeds(reads=1e12, dequantises=1000.0, computes=1e6))
    assert slow.dequantising == pytest.approx(sum(inside.values()) * 4 / 1000)
    assert slow.seconds == slow.dequantising + slow.computing


def test_twice_the_tokens_take_twice_the_computing(run: Run) -> None:
    speeds = Speeds(1.0, None, 1.0)
    plan = plan_stream([run], 10**10)
    one, two = forecast([run], plan, speeds), forecast([run, run], plan, speeds)
    assert two.computing == 2 * one.computing
    assert two.reading == one.reading


def test_this_machine_is_measured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_probe, "_SECONDS", 0.03)
    found = probe(run)
    assert found.reads > 10**5
    assert found.computes > 10**8
    assert found.dequantises is None
    path = run.source.checkpoint.path
    quantised(path, {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}, to_fp8)
    found = probe(run_of(path, 10))
    assert found.dequantises is not None
    assert found.dequantises > 1000


def test_a_dry_run_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_probe, "_SECONDS", 0.03)
    command = ["prune", "--model", "demo", "--domain", "math", "--device", "cpu", "--dry-run"]
    command += ["--runner", "stream", "--work-dir", "runs/here"]
    shown = CliRunner().invoke(app, command).output
    for words in ("to read", "memory needed", "expected time", "runs/here", "full record"):
        assert words in shown
    facts = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert facts["stream"]["bytes_to_read"] > 5_000_000
    assert facts["stream"]["seconds"] >= 0
    assert facts["record_bytes"] > 0
    command[command.index("stream")] = "memory"
    assert json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)["stream"] is None
