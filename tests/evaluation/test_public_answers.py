"""Public tasks that judge free answers: programs are run, instructions are checked.

As `test_public_tasks`: lm-eval's definitions and the suites' settings, on a few items of our own in
the form of the data sets. The metric that runs programs lies on the hub too; `CodeEval` stands in.
"""

import os
import statistics
import subprocess
import sys
from itertools import chain
from typing import Any

import datasets
import evaluate
import nltk
import pytest

from easyep.errors import EvaluationError
from easyep.evaluation import evaluating
from easyep.evaluation.asking import Asking
from easyep.evaluation.suites import Asked, suite
from easyep.resources import demo_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ALLOWED = "HF_ALLOW_CODE_EVAL"


class CodeEval:
    """The metric `code_eval`, as far as the tasks use it: programs in a process of their own."""

    def compute(
        self, references: list[str], predictions: list[list[str]], k: list[int]
    ) -> tuple[dict[str, float], None]:
        if os.environ.get(ALLOWED) != "1":
            raise ValueError(f'"code_eval" executes programs: set {ALLOWED}="1"')
        assert k == [1]
        passed = [
            runs(f"{program}\n{test}")
            for test, programs in zip(references, predictions, strict=True)
            for program in programs
        ]
        return {"pass@1": statistics.mean(passed)}, None


def runs(program: str) -> bool:
    words = [sys.executable, "-I", "-c", program]
    return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode == 0


# Whatever follows the prompt ends up in a text, so that the tests alone decide.
FUNCTIONS = [
    {
        "task_id": f"own/{number}",
        "prompt": f"def number():\n    return {number}\n\nREMARK = r'''\n",
        "entry_point": "number",
        "canonical_solution": "",
        "test": "\n'''\ndef check(candidate):\n    assert candidate() == 7\n",
    }
    for number in (7, 8)
]
# Without a closing fence no program is found; the tests of the first hold all the same.
TASKS = [
    {
        "task_id": number,
        "text": "Write a function that adds one.",
        "code": "def more(n):\n    return n + 1",
        "test_list": [f"assert {test}"] * 3,
    }
    for number, test in enumerate(("1 + 1 == 2", "more(1) == 2"))
]
WISHES = [
    ("punctuation:no_comma", {}),
    ("keywords:forbidden_words", {"forbidden_words": ["elephant"]}),
    ("detectable_format:title", {}),
]
INSTRUCTIONS = [
    {
        "key": number,
        "prompt": f"What is {number} + 4? Follow the wishes.",
        "instruction_id_list": [name for name, _ in wishes],
        "kwargs": [{"forbidden_words": None, **kwargs} for _, kwargs in wishes],
    }
    for number, wishes in enumerate((WISHES[:2], WISHES))
]
HUB = {
    ("openai/openai_humaneval", None): {"test": FUNCTIONS},
    ("google-research-datasets/mbpp", "full"): {"train": TASKS, "test": TASKS},
    ("google/IFEval", None): {"train": INSTRUCTIONS},
}


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data sets of HUB, and no other, where lm-eval looks for them; its metric of programs."""

    def load(path: str, name: str | None = None, **_: Any) -> datasets.DatasetDict:
        splits = {key: datasets.Dataset.from_list(rows) for key, rows in HUB[path, name].items()}
        return datasets.DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(evaluate, "load", {"code_eval": CodeEval()}.__getitem__)
    monkeypatch.setattr(nltk.data, "find", lambda name: name)  # which would be fetched; not used
    monkeypatch.delenv(ALLOWED, raising=False)


def measured(asked: Asked, **choices: Any) -> Any:
    asking = Asking(demo_model(), dtype="float32", device="cpu", batch_size=4)
    short = Asked(asked.task, asked.num_fewshot, asked.chat, {**asked.generation, **SHORT})
    return evaluating.evaluate(asking, [short], limit=2, **choices)


SHORT = {"max_gen_toks": 12}
CODE = [each.task for each in suite("code")]


def of(name: str, task: str) -> Asked:
    return next(each for each in suite(name) if each.task == task)


@pytest.mark.parametrize("task", CODE)
def test_programs_are_run_where_the_user_says_so(task: str) -> None:
    found = measured(of("code", task), unsafe=True)
    (result,) = found.results
    assert (result.value, result.samples) == (0.5, 2)
    by_item = {each["doc_id"]: each for each in found.harness["samples"][task]}
    name = result.metric.partition(",")[0]
    assert [by_item[number][name] for number in range(2)] == [1.0, 0.0]
    assert ALLOWED not in os.environ


@pytest.mark.parametrize("environment", [None, "1"])
@pytest.mark.parametrize("task", CODE)
def test_programs_are_refused_else(
    task: str, environment: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the leave of the metric alone is there, as for another program."""
    if environment is not None:
        monkeypatch.setenv(ALLOWED, environment)
    ran: list[str] = []
    monkeypatch.setattr(sys.modules[__name__], "runs", lambda program: bool(ran.append(program)))
    with pytest.raises(EvaluationError, match="--confirm-run-unsafe-code"):
        measured(of("code", task))
    own = "def add(a,b): return a*b"  # what lm-eval tries the metric with
    assert all(program.startswith(own) for program in ran)
    assert os.environ.get(ALLOWED) == environment


def test_instructions_are_checked() -> None:
    found = measured(of("chat", "ifeval"))
    values = {each.metric.partition(",")[0]: each.value for each in found.results}
    assert set(values) == {
        f"{level}_level_{kind}_acc" for level in ("prompt", "inst") for kind in ("strict", "loose")
    }
    met = []
    for sample in sorted(found.harness["samples"]["ifeval"], key=lambda each: each["doc_id"]):
        (answer,) = sample["filtered_resps"]
        plain = [bool(answer) and "," not in answer, bool(answer) and "elephant" not in answer]
        met.append(plain if sample["doc_id"] == 0 else [*plain, "<<" in answer])
        assert sample["inst_level_strict_acc"] == met[-1]
        assert INSTRUCTIONS[sample["doc_id"]]["prompt"] in sample["arguments"][0][0]
        assert "<|user|>" in sample["arguments"][0][0]
    assert values["prompt_level_strict_acc"] == statistics.mean(map(all, met))
    assert values["inst_level_strict_acc"] == pytest.approx(statistics.mean(chain(*met)))
