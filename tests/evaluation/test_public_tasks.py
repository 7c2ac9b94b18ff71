"""lm-eval's public tasks as a suite asks them, on a few made-up items of their data's form.

Nothing is fetched: in place of the data sets on the hub the tasks get local ones with the same
columns. All else is real: lm-eval's definitions, the suites' settings, the demo model.
"""

import json
import shutil

import datasets
import pytest

import easyep
from easyep.errors import EvaluationError
from easyep.evaluation import evaluating
from easyep.evaluation.asking import Asking
from easyep.evaluation.suites import suite
from easyep.resources import demo_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SUMS = [{"question": f"{a} + {a + 1} = ?", "answer": f"#### {2 * a + 1}"} for a in range(20, 32)]
OPTIONS = [
    {
        "id": str(i),
        "question": f"Which is {i}?",
        "choices": {"text": [str(i + j) for j in range(4)], "label": list("ABCD")},
        "answerKey": "A",
    }
    for i in range(30)
]
SUBJECTS = [
    {
        "question_id": i,
        "question": f"Which is {i}?",
        "options": [str(i), str(i + 1)],
        "answer": "A",
        "answer_index": 0,
        "cot_content": "A: Let's think step by step. The answer is (A).",
        "category": "biology" if i % 2 else "law",
    }
    for i in range(8)
]
EXAMS = [
    {"question": f"Which is {i}?", "answer": "A", **{o: str(i + j) for j, o in enumerate("ABCD")}}
    for i in range(10)
]
SCHOOL = [
    {"question": f"Which is {i}?", "choices": [str(i + j) for j in range(4)], "answer": 0}
    for i in range(10)
]
CLINIC = [
    {"question": f"Which is {i}?", "cop": 0, **{f"op{o}": str(i + ord(o)) for o in "abcd"}}
    for i in range(4)
]
STORIES = [
    {
        "ctx_a": f"She takes {i} eggs.",
        "ctx_b": "then she",
        "activity_label": "Baking",
        "endings": ["mixes them.", "sings.", "leaves.", "reads."],
        "label": "0",
    }
    for i in range(14)
]
GAPS = [
    {
        "sentence": f"The pot did not fit on shelf {i} since the _ was too large.",
        "option1": "pot",
        "option2": "shelf",
        "answer": "1",
    }
    for i in range(8)
]
NUMBER = {"number": "3", "date": {"day": "", "month": "", "year": ""}, "spans": []}
GAMES = [
    {
        "query_id": str(i),
        "passage": f"In game {i} the Bears made 3 points.",
        "question": "How many points did they make?",
        "answer": NUMBER,
        "validated_answers": {"number": ["3"], "date": [NUMBER["date"]], "spans": [["3"]]},
    }
    for i in range(6)
]
CAUSES = [
    {"premise": "Abc.", "question": kind, "choice1": "D.", "choice2": "E.", "label": 0}
    for kind in ("cause", "effect", "cause")
]
LANGUAGES = ("et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")
HUB = {
    ("openai/gsm8k", "main"): {"train": SUMS[:8], "test": SUMS[8:]},
    ("allenai/ai2_arc", "ARC-Challenge"): {
        "train": OPTIONS[:27],
        "validation": OPTIONS[27:28],
        "test": OPTIONS[28:],
    },
    ("TIGER-Lab/MMLU-Pro", None): {"validation": SUBJECTS[:2], "test": SUBJECTS[2:]},
    ("openlifescienceai/medmcqa", None): {
        "train": CLINIC[:2],
        "validation": CLINIC[2:],
        "test": CLINIC[2:],
    },
    ("ceval/ceval-exam", "accountant"): {"dev": EXAMS[:5], "val": EXAMS[5:], "test": EXAMS[5:]},
    ("cais/mmlu", "jurisprudence"): {"dev": SCHOOL[:5], "test": SCHOOL[5:]},
    ("EleutherAI/drop", None): {"train": GAMES[:4], "validation": GAMES[4:]},
    ("Rowan/hellaswag", None): {"train": STORIES[:12], "validation": STORIES[12:]},
    ("allenai/winogrande", "winogrande_xl"): {"train": GAPS[:6], "validation": GAPS[6:]},
    **{
        ("cambridgeltl/xcopa", language): {"validation": CAUSES[:1], "test": CAUSES[1:]}
        for language in LANGUAGES
    },
}


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    """The data sets of HUB, and no other, where lm-eval looks for them."""

    def load(path, name=None, **_):
        splits = {key: datasets.Dataset.from_list(rows) for key, rows in HUB[path, name].items()}
        return datasets.DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", load)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    """The demo model with a chat template that knows thinking, in Qwen3's words."""
    path = tmp_path_factory.mktemp("thinker") / "demo"
    shutil.copytree(demo_model(), path)
    file = path / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["chat_template"] += "{% if enable_thinking %}<think>{% endif %}"
    file.write_text(json.dumps(settings))
    return path


def measured(path, asked, **settings):
    asking = Asking(path, dtype="float32", device="cpu", batch_size=4, **settings)
    return evaluating.evaluate(asking, [asked], limit=2)


def of(name, task, **style):
    return next(each for each in suite(name, **style) if each.task == task)


def prompt_of(sample):
    return sample["arguments"][0][0]


def test_a_generative_task_with_examples_as_turns():
    found = measured(demo_model(), of("math", "gsm8k"))
    strict, flexible = found.results
    assert (strict.task, strict.metric) == ("gsm8k", "exact_match,strict-match")
    assert flexible.metric == "exact_match,flexible-extract"
    assert (strict.samples, strict.version) == (2, "3.0")
    assert found.harness["n-shot"] == {"gsm8k": 5}
    sample = found.harness["samples"]["gsm8k"][0]
    turns = prompt_of(sample)
    # Five examples and the question, each a turn of the user's.
    assert turns.count("<|user|>") == 6
    assert turns.count("####") == 5
    assert SUMS[8]["question"] in turns
    assert sample["target"] == SUMS[8]["answer"]


def test_a_multiple_choice_without_the_chat_template():
    found = measured(demo_model(), of("science", "arc_challenge"))
    assert [each.metric for each in found.results] == ["acc,none", "acc_norm,none"]
    assert found.harness["n-shot"] == {"arc_challenge": 25}
    sample = found.harness["samples"]["arc_challenge"][0]
    # A request for each option, with the same examples as plain text in front.
    assert [request[1] for request in sample["arguments"]] == [" 28", " 29", " 30", " 31"]
    assert prompt_of(sample).count("Question:") == 26
    assert "<|user|>" not in prompt_of(sample)
    best = max(range(4), key=lambda i: sample["filtered_resps"][i][0])
    assert sample["acc"] == float(best == 0)


def test_thinking_reaches_a_public_task(thinker):
    asked = of("science", "mmlu_pro_biology", thinking=True)
    assert asked.generation["temperature"] == 0.6
    found = easyep.evaluate(
        thinker,
        ["mmlu_pro_biology"],
        style="auto",
        gen_kwargs={**asked.generation, "max_gen_toks": 16},
        num_fewshot=0,
        limit=2,
        dtype="float32",
        device="cpu",
    )
    assert found.settings["thinking"] is True
    for sample in found.harness["samples"]["mmlu_pro_biology"]:
        assert sample["doc"]["category"] == "biology"
        assert prompt_of(sample).endswith("<think>")
        asked_for = sample["arguments"][0][1]
        assert (asked_for["do_sample"], asked_for["temperature"]) == (True, 0.6)
        assert asked_for["max_gen_toks"] == 16
    plain = easyep.evaluate(
        thinker,
        ["mmlu_pro_biology"],
        style="plain",
        gen_kwargs={"max_gen_toks": 4},
        num_fewshot=1,
        limit=1,
        dtype="float32",
        device="cpu",
    )
    assert not prompt_of(plain.harness["samples"]["mmlu_pro_biology"][0]).endswith("<think>")


def test_longer_answers_than_the_model_has_room_for(thinker):
    asked = of("science", "mmlu_pro_biology", thinking=True)
    with pytest.raises(EvaluationError, match=r"32768.*2048.*--gen-kwargs max_gen_toks="):
        measured(thinker, asked, thinking=True)


# For each further suite a task: its metrics, its examples, what stands in front of each of them.
CASES = {
    ("medicine", "medmcqa"): (["acc,none", "acc_norm,none"], "Question: "),
    ("finance", "ceval-valid_accountant"): (["acc,none", "acc_norm,none"], "\n答案"),
    ("law", "mmlu_jurisprudence"): (["acc,none"], "Answer:"),
    ("documents", "drop"): (["em,none", "f1,none"], "How many points"),
    ("general", "hellaswag"): (["acc,none", "acc_norm,none"], "Baking: "),
    ("general", "winogrande"): (["acc,none"], "The pot"),
}


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_task_of_each_suite(name, task):
    asked, (metrics, mark) = of(name, task), CASES[name, task]
    found = measured(demo_model(), asked)
    assert [each.metric for each in found.results] == metrics
    assert {each.samples for each in found.results} == {2}
    assert found.harness["n-shot"] == {task: asked.num_fewshot}
    for sample in found.harness["samples"][task]:
        assert prompt_of(sample).count(mark) == asked.num_fewshot + 1
        assert ("<|user|>" in prompt_of(sample)) == (asked.chat is None)


def test_a_group_of_languages():
    found = measured(demo_model(), of("multilingual", "xcopa"))
    (whole,) = found.shown
    assert (whole.task, whole.metric, whole.samples) == ("xcopa", "acc,none", 22)
    parts = [each for each in found.results if each.part_of == "xcopa"]
    assert len(parts) == 11
    assert whole.value == pytest.approx(sum(each.value for each in parts) / 11)
