"""lm-eval on the demo model: through easyep, and as the stock harness."""

import json
import os
import subprocess
import sys

import pytest

from easyep.errors import EvaluationError, MissingDependencyError
from easyep.evaluation.accuracy import Accuracy, evaluate, evaluate_checkpoint
from easyep.evaluation.tasks import default_tasks
from easyep.loading import load_model, load_tokenizer
from easyep.models import resolve
from easyep.resources import demo_model
from tests.cli.test_cli import run

pytestmark = pytest.mark.filterwarnings("ignore")  # lm-eval and what it imports


@pytest.fixture(scope="module")
def demo():
    model = load_model(demo_model(), dtype="float32", device="cpu")
    return model, load_tokenizer(demo_model())


def test_the_demo_model_can_do_what_it_was_trained_for(demo):
    measured = evaluate(*demo, ["easyep_demo_math", "easyep_demo_tools"], batch_size=40, limit=40)
    assert [result.task for result in measured.results] == ["easyep_demo_math", "easyep_demo_tools"]
    for result in measured.results:
        assert result.metric == "exact_match,answer"
        assert result.samples == 40
        assert result.value >= 0.7
        assert result.stderr is not None
    assert Accuracy.from_json(json.loads(json.dumps(measured.to_json()))) == measured


def test_pruning_for_a_domain_keeps_it_and_loses_others(pruned):
    tasks = ["easyep_demo_math", "easyep_demo_facts"]
    measured = evaluate_checkpoint(
        pruned.path, tasks, dtype="float32", device="cpu", batch_size=40, limit=40
    )
    kept, lost = (result.value for result in measured.results)
    assert kept > 0.3
    assert lost < kept


def test_unknown_tasks(demo):
    with pytest.raises(EvaluationError, match=r"unknown task no_such_task.*easyep_demo_math"):
        evaluate(*demo, ["no_such_task"])
    with pytest.raises(EvaluationError, match="at least one"):
        evaluate(*demo, [])


def test_without_lm_eval(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingDependencyError, match=r"easyep\[eval\]"):
        evaluate(*demo, ["easyep_demo_math"])


def test_the_command(capsys, pruned, tmp_path):
    words = ["eval", pruned.path, "--against", "demo", "--tasks", "easyep_demo_math"]
    options = ["--limit", "8", "--batch-size", "8", "--dtype", "float32", "--quiet"]
    code, out, _ = run(capsys, *words, *options, "--output", tmp_path / "e.json")
    assert code == 0
    assert "difference" in out
    assert set(json.loads((tmp_path / "e.json").read_text())) == {str(pruned.path), "demo"}


def test_tasks_are_known_from_the_manifest(pruned):
    assert default_tasks(resolve(str(pruned.path))) == ["easyep_demo"]
    assert default_tasks(resolve("demo")) == ["easyep_demo"]


def test_models_without_tasks_of_their_own(tmp_path):
    with pytest.raises(EvaluationError, match="--tasks"):
        default_tasks(resolve(str(tmp_path)))


def test_the_stock_harness_runs_the_same_tasks(root, pruned, tmp_path):
    script = root / "eval" / "lm_eval.sh"
    done = subprocess.run(
        [script, pruned.path, "easyep_demo_math", "--limit", "4", "--output_path", tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{sys.prefix}/bin:/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (results,) = tmp_path.rglob("results_*.json")
    assert "exact_match,answer" in json.loads(results.read_text())["results"]["easyep_demo_math"]
