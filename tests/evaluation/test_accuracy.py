"""lm-eval on the demo model: through easyep, and as the stock harness."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from types import SimpleNamespace

import pytest

import easyep
from easyep.checkpoint.files import Checkpoint
from easyep.errors import EvaluationError, MissingDependencyError, UnknownNameError
from easyep.evaluation.accuracy import Accuracy, results_of
from easyep.evaluation.evaluating import evaluate_checkpoint
from easyep.evaluation.saving import save
from easyep.evaluation.tasks import default_tasks
from easyep.models import resolve
from easyep.resources import demo_model
from tests.cli.test_cli import run

pytestmark = pytest.mark.filterwarnings("ignore")  # lm-eval and what it imports


HERE = {"dtype": "float32", "device": "cpu"}


def test_the_demo_model_can_do_what_it_was_trained_for():
    tasks = ["easyep_demo_math", "easyep_demo_tools"]
    measured = evaluate_checkpoint(demo_model(), tasks, batch_size=40, limit=40, **HERE)
    assert [result.task for result in measured.results] == tasks
    for result in measured.results:
        assert result.metric == "exact_match,answer"
        assert result.samples == 40
        assert result.value >= 0.7
        assert result.stderr is not None
    assert measured.settings["dtype"] == "float32"
    assert measured.settings["model"] == Checkpoint.open(demo_model()).identity("").to_json()
    assert not measured.settings["masked"]
    assert Accuracy.from_json(json.loads(json.dumps(measured.to_json()))) == measured


def test_pruning_for_a_domain_keeps_it_and_loses_others(pruned):
    tasks = ["easyep_demo_math", "easyep_demo_facts"]
    measured = evaluate_checkpoint(
        pruned.path, tasks, dtype="float32", device="cpu", batch_size=40, limit=40
    )
    kept, lost = (result.value for result in measured.results)
    assert kept > 0.3
    assert lost < kept


def test_a_task_says_which_group_counts_it():
    measured = {
        "results": {"part": {"acc,none": 0.5}, "alone": {"acc,none": 1.0}},
        "groups": {"whole": {"acc,none": 0.5}},
        "group_subtasks": {"whole": ["part"], "a tag without a result": ["alone"]},
        "n-samples": {"part": {"effective": 4}, "alone": {"effective": 2}},
        "versions": {},
    }
    found = Accuracy(tuple(results_of(measured)), {})
    assert {each.task: each.part_of for each in found.results} == {
        "part": "whole",
        "alone": "",
        "whole": "",
    }
    assert [each.task for each in found.shown] == ["alone", "whole"]


def test_unknown_tasks():
    with pytest.raises(EvaluationError, match=r"unknown task no_such_task.*easyep_demo_math"):
        evaluate_checkpoint(demo_model(), ["no_such_task"])
    with pytest.raises(EvaluationError, match="at least one"):
        evaluate_checkpoint(demo_model(), [])


def test_without_lm_eval(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(MissingDependencyError, match=r"easyep\[eval\]"):
        evaluate_checkpoint(demo_model(), ["easyep_demo_math"])


def test_the_command(capsys, pruned, tmp_path):
    words = ["eval", pruned.path, "--against", "demo", "--tasks", "easyep_demo_math"]
    options = ["--limit", "8", "--batch-size", "8", "--dtype", "float32", "--quiet"]
    code, out, _ = run(capsys, *words, *options, "--output", tmp_path / "e.json")
    assert code == 0
    assert "difference" in out
    found = json.loads((tmp_path / "e.json").read_text())
    assert set(found) == {str(pruned.path), "demo", "differences"}
    (pair,) = found["differences"]
    assert pair["items"] == 8
    assert pair["test"] == "mcnemar"
    models = {name: each["settings"]["model"] for name, each in found.items() if "settings" in each}
    assert models["demo"] == Checkpoint.open(demo_model()).identity("").to_json()
    assert models[str(pruned.path)] == Checkpoint.open(pruned.path).identity("").to_json()


def test_wrong_usage(capsys):
    for words in (["--backend", "tgi"], ["--model-args", "nonsense"], ["--style", "loud"]):
        code, _, err = run(capsys, "eval", "demo", "--limit", "1", "--quiet", *words)
        assert code in (1, 2)
        assert words[1] in err
    code, _, err = run(capsys, "eval", "demo", "--backend", "local-completions", "--quiet")
    assert code == 1
    assert "base_url=http" in err


def test_a_style_that_is_none():
    with pytest.raises(UnknownNameError, match="unknown style 'thinkin': did you mean 'thinking'"):
        easyep.evaluate("demo", ["easyep_demo_math"], style="thinkin")


def test_finished_tasks_are_not_measured_again(tmp_path, monkeypatch):
    settings = {"limit": 4, "batch_size": 4, "dtype": "float32", "device": "cpu"}
    first = easyep.evaluate("demo", ["easyep_demo_math"], work_dir=tmp_path, **settings)
    monkeypatch.setattr("easyep.loading.load_model", None)  # nothing needs it
    again = easyep.evaluate("demo", ["easyep_demo_math"], work_dir=tmp_path, **settings)
    assert again == first
    assert again.harness["samples"] == first.harness["samples"]
    with pytest.raises(TypeError):  # other settings are another evaluation
        easyep.evaluate("demo", ["easyep_demo_math"], work_dir=tmp_path, num_fewshot=1, **settings)


def test_answers_of_an_unfinished_task_are_kept(tmp_path, monkeypatch):
    """What an interrupted run has answered is there: here, the items of a smaller limit."""
    from lm_eval.models.huggingface import HFLM

    settings = {"batch_size": 4, "dtype": "float32", "device": "cpu", "work_dir": tmp_path}
    easyep.evaluate("demo", ["easyep_demo_math"], limit=4, **settings)
    answered = []
    original = HFLM.generate_until

    def counted(self, requests, *args, **kwargs):
        answered.append(len(requests))
        return original(self, requests, *args, **kwargs)

    monkeypatch.setattr(HFLM, "generate_until", counted)
    easyep.evaluate("demo", ["easyep_demo_math"], limit=6, **settings)
    assert answered == [2]


def test_what_is_damaged_is_measured_again_and_nothing_is_pickled(tmp_path):
    settings = {"limit": 2, "batch_size": 2, "dtype": "float32", "device": "cpu"}
    settings["work_dir"] = tmp_path
    first = easyep.evaluate("demo", ["easyep_demo_math"], **settings)
    (answers,) = tmp_path.rglob("*.db")
    with closing(sqlite3.connect(answers)) as kept:
        rows = kept.execute("select answer from answers").fetchall()
    assert len(rows) == 2
    assert all(isinstance(json.loads(value), str) for (value,) in rows)
    (file,) = tmp_path.rglob("easyep_demo_math-*.json")
    value = json.loads(file.read_text())
    for damaged in ("", "{}", '{"results": 5}', json.dumps({**value, "n-samples": None})):
        file.write_text(damaged)
        assert easyep.evaluate("demo", ["easyep_demo_math"], **settings) == first


class Counting:
    """Progress that is counted by title."""

    def __init__(self):
        self.totals, self.done = {}, {}

    @contextmanager
    def task(self, title, total, unit):
        self.totals[title] = total
        self.done[title] = 0
        yield SimpleNamespace(advance=lambda amount=1: self.count(title, amount))

    def count(self, title, amount):
        self.done[title] += amount

    def say(self, sentence):
        pass


@pytest.mark.parametrize("kept", [False, True])
def test_answers_are_counted_while_they_come(tmp_path, kept):
    progress = Counting()
    settings = {"limit": 6, "batch_size": 2, "dtype": "float32", "device": "cpu"}
    if kept:
        settings["work_dir"] = tmp_path
    easyep.evaluate("demo", ["easyep_demo_math"], progress=progress, **settings)
    assert progress.totals == {"Evaluating demo": 1, "easyep_demo_math": 6}
    assert progress.done == progress.totals


def test_tasks_are_those_of_the_model_that_one_was_made_from(pruned):
    assert default_tasks(resolve(str(pruned.path))) == ["easyep_demo"]
    assert default_tasks(resolve("demo")) == ["easyep_demo"]


def test_models_without_tasks_of_their_own(tmp_path):
    with pytest.raises(EvaluationError, match="--tasks"):
        default_tasks(resolve(str(tmp_path)))


def test_the_stock_harness_gives_the_same_in_the_same_form(root, capsys, pruned, tmp_path):
    """Results and samples, file by file and key by key."""
    script = root / "eval" / "lm_eval.sh"
    stock, ours = tmp_path / "stock", tmp_path / "ours"
    task, limit = "easyep_demo_math", "4"
    done = subprocess.run(
        [script, pruned.path, task, "--limit", limit, "--output_path", stock, "--log_samples"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{sys.prefix}/bin:/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = ["eval", pruned.path, "--tasks", task, "--limit", limit, "--dtype", "float32"]
    code, _, _ = run(capsys, *words, "--device", "cpu", "--output", ours, "--quiet")
    assert code == 0
    theirs, mine = (next(folder.rglob("results_*.json")) for folder in (stock, ours))
    theirs, mine = json.loads(theirs.read_text()), json.loads(mine.read_text())
    for key in ("versions", "n-shot", "n-samples", "higher_is_better", "task_hashes"):
        assert mine[key] == theirs[key], key
    for key, value in theirs["results"][task].items():
        assert mine["results"][task][key] == value, key
    theirs, mine = (next(folder.rglob("samples_*.jsonl")) for folder in (stock, ours))
    theirs, mine = (
        [json.loads(line) for line in file.read_text().splitlines()] for file in (theirs, mine)
    )
    assert mine == theirs


@pytest.mark.parametrize(
    ("name", "folder"), [("org/model", "org__model"), ("..", "__"), (".", "__"), ("m-1.5", "m-1.5")]
)
def test_a_models_results_lie_in_a_folder_of_its_own(tmp_path, name, folder):
    settings = {"backend": "hf", "model_args": {}, "lm_eval": "0.4"}
    found = save(Accuracy((), settings, {"config": {}}), tmp_path / "out", name)
    assert found.parent == tmp_path / "out" / folder
    assert json.loads(found.read_text())["model_name_sanitized"] == folder
