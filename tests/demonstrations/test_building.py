"""Demonstrations from data sets; the rows here have the columns of the real ones."""

import json

import pytest

from easyep import cli
from easyep.artifacts import Demo
from easyep.demonstrations import building
from easyep.demonstrations.sources import local_files
from easyep.errors import ArtifactError, DemosError, UnknownNameError
from easyep.recipe import read_yaml

# One row for each ready recipe, with the columns of its data set.
ROWS = {
    "paper-math": {
        "ID": "2023-I-1",
        "Year": 2023,
        "Problem Number": 1,
        "Question": "q",
        "Answer": "42",
    },
    "paper-code": {
        "question_content": "q",
        "platform": "atcoder",
        "difficulty": "hard",
        "starter_code": "",
    },
    "paper-science": {
        "Question": "q",
        "Correct Answer": "a\n",
        "Incorrect Answer 1": "b",
        "Incorrect Answer 2": "c",
        "Incorrect Answer 3": "d",
        "High-level domain": "Physics",
    },
    "paper-finance": {
        "Unnamed: 0": 7,
        "Question": "q",
        "A": "1",
        "B": "2",
        "C": "3",
        "D": "4",
        "Answer": "B",
    },
    "paper-medicine": {
        "question": "q",
        "options": {"A": "1", "B": "2"},
        "answer": "2",
        "answer_idx": "B",
        "meta_info": "step1",
    },
    "paper-agent": {
        "id": "os_0",
        "conversations": [
            {"from": "human", "value": "q", "loss": None},
            {"from": "gpt", "value": "a", "loss": True},
        ],
    },
    "math": {
        "problem": "q",
        "problem_type": "Algebra",
        "generations": ["<think>\nhm\n</think>\n\na"],
        "correctness_math_verify": [True],
    },
    "code": {"problem": "q", "solution": "a", "lang": "python"},
    "chat": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "tools": {
        "query": "q",
        "tools": '[{"name": "f"}]',
        "answers": '[{"name": "f", "arguments": {}}]',
    },
    "multilingual": {"inputs": "q", "targets": "a", "language_code": "fra"},
    "summaries": {"article": "q", "highlights": "a", "id": "1"},
    "law": {"context": "q", "endings": ["1", "2", "3", "4", "5"], "label": 2},
    "writing": {"prompt": "q", "story": "a"},
}


def recipe(**changes) -> building.BuildRecipe:
    value = {"dataset": "json", "messages": [{"role": "user", "content": "{{ question }}"}]}
    return building.BuildRecipe.from_mapping(value | changes)


def test_every_ready_recipe_has_a_row_here():
    assert sorted(ROWS) == building.ready_recipes()


@pytest.mark.parametrize("name", building.ready_recipes())
def test_ready_recipes_fit_the_columns_of_their_data_sets(name, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(ROWS[name]) + "\n" for _ in range(3)))
    read = building.BuildRecipe.from_mapping(read_yaml(building.recipe_file(name)))
    changed = {**vars(read), **vars(local_files([str(rows)])), "count": 2}
    lines = list(building.build(building.BuildRecipe(**changed)))
    assert len(lines) == 2
    messages = Demo.from_json(lines[0]).content["messages"]
    assert any("q" in m["content"] for m in messages)
    assert {m["role"] for m in messages} <= {"system", "user", "assistant"}
    if messages[-1]["role"] == "assistant" and "label" not in ROWS[name]:
        assert "a" in messages[-1]["content"]
    if "check" in lines[0]:
        assert lines[0]["check"]["answer"]


def test_columns_without_known_names_are_taken_by_position():
    read = building.BuildRecipe.from_mapping(read_yaml(building.recipe_file("paper-finance")))
    row = dict(zip("nopqrst", [7, "問", "甲", "乙", "丙", "丁", "C\n"], strict=True))
    line = next(building.build(read, rows=[row]))
    asked = line["messages"][0]["content"]
    assert asked.startswith("問\n\nA. 甲\nB. 乙\nC. 丙\nD. 丁\n\n")
    assert line["check"] == {"kind": "choice", "answer": "C"}


def test_thinking_is_told_apart():
    read = building.BuildRecipe.from_mapping(read_yaml(building.recipe_file("math")))
    line = next(building.build(read, rows=[ROWS["math"]]))
    assert line["messages"][1] == {"role": "assistant", "content": "a", "reasoning_content": "hm"}


def test_options_stand_in_an_order_that_their_texts_decide():
    shown = building.lettered("x", ["y", "z", "w"])
    assert shown == building.lettered("x", ["w", "z", "y"])
    letters = {building.lettered(f"right {i}", ["a", "b", "c"])["letter"] for i in range(40)}
    assert letters == {"A", "B", "C", "D"}
    assert f"{shown['letter']}. x" in shown["text"]


def test_rows_are_filtered_and_empty_ones_skipped():
    rows = [{"question": q, "level": n} for n, q in enumerate(["a", "", "c", "d"])]
    made = list(building.build(recipe(filter="level != 2", count=2), rows=rows))
    assert [line["messages"][0]["content"] for line in made] == ["a", "d"]


def test_the_seed_decides_what_is_drawn(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"q{i}"}) + "\n" for i in range(50)))

    def drawn(seed: int) -> list[str]:
        made = building.build(recipe(data_files=[str(rows)], count=5, seed=seed))
        return [line["messages"][0]["content"] for line in made]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    assert len(set(drawn(0))) == 5


def test_no_more_is_read_than_needed():
    def endless():
        while True:
            yield {"question": "q"}

    assert len(list(building.build(recipe(count=3), rows=endless()))) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"messages": []}, "messages must be a list"),
        ({"messages": [{"role": "user"}]}, "messages must be a list"),
        ({"count": 0}, "count must be a positive integer"),
        ({"metadata": ["a"]}, "metadata must be a mapping"),
        ({"tools": 1}, "tools"),
        ({"subset": 2024}, "subset must be a text, not 2024"),
        ({"revision": 1.0}, "revision must be a text, not 1.0"),
        ({"split": None}, "split must be a text"),
        ({"filter": ["a"]}, "filter"),
        ({"data_files": 1}, "data_files must be a path"),
        ({"data_files": [None]}, "data_files must be a path"),
    ],
)
def test_a_recipe_is_validated(changes, message):
    with pytest.raises(ArtifactError, match=message):
        recipe(**changes)


def test_an_unknown_key_or_name_suggests_the_right_one():
    with pytest.raises(UnknownNameError, match="did you mean 'count'"):
        recipe(counts=3)
    with pytest.raises(UnknownNameError, match="did you mean 'paper-math'"):
        building.recipe_file("paper-maths")


def test_what_goes_wrong_is_said():
    with pytest.raises(DemosError, match=r"'answer' is undefined \(its columns: question\)"):
        list(building.build(recipe(metadata={"a": "{{ answer }}"}), rows=[{"question": "q"}]))
    with pytest.raises(DemosError, match="only 1 of 25 demonstrations: 1 rows"):
        list(building.build(recipe(), rows=[{"question": "q"}]))
    with pytest.raises(ArtifactError, match="is not valid"):
        list(building.build(recipe(filter="a ="), rows=[]))
    with pytest.raises(ArtifactError, match="is not valid: .*digits"):
        list(building.build(recipe(tools="{{" + "9" * 5000 + "}}"), rows=[]))
    # What is written in a template cannot reach Python.
    hostile = "{{ ''.__class__.__mro__ }}"
    with pytest.raises(DemosError, match="unsafe"):
        list(building.build(recipe(metadata={"a": hostile}), rows=[{"question": "q"}]))


def test_a_template_that_takes_all_memory():
    large = recipe(metadata={"a": "{{ 'a' * 10**10 }}"})
    with pytest.raises((ArtifactError, DemosError), match="takes more than 2 GB of memory"):
        list(building.build(large, rows=[{"question": "q"}]))


def test_a_template_without_an_end(monkeypatch):
    monkeypatch.setattr(building, "LONGEST_ROW", 0.2)
    endless = "{% for a in range(99999) %}" * 2 + "{% endfor %}" * 2
    with pytest.raises(DemosError, match="takes more than 0.2 seconds"):
        list(building.build(recipe(metadata={"a": endless}), rows=[{"question": "q"}]))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("where", [{"metadata": {"a": "{{ 9**(9**9) }}"}}, {"filter": "9**(9**9)"}])
def test_a_number_without_an_end(where, monkeypatch):
    """Jinja computes what is constant when it reads the template."""
    monkeypatch.setattr(building, "LONGEST_ROW", 0.2)
    with pytest.raises((ArtifactError, DemosError), match="takes more than 0.2 seconds"):
        list(building.build(recipe(**where), rows=[{"question": "q"}]))


def test_files_of_kinds_that_can_hold_code_are_refused():
    with pytest.raises(UnknownNameError, match=r"unknown dataset 'pandas' \(valid: csv, json"):
        recipe(dataset="pandas", data_files="x.pkl")


def test_a_hub_that_cannot_be_reached(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DemosError, match=r"nobody/nothing cannot be read.*--data-files"):
        list(building.build(recipe(dataset="nobody/nothing")))


def test_the_command(capsys, tmp_path):
    rows, output = tmp_path / "rows.jsonl", tmp_path / "demos.jsonl"
    rows.write_text(json.dumps(ROWS["code"]) + "\n")
    words = ["demos", "build", "code", "--data-files", str(rows), "--output", str(output)]
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--count", "1", "--json"])
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out)["demos"] == 1
    assert json.loads(output.read_text())["topic"] == "python"
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--count", "2"])
    assert stop.value.code == 1
    assert "only 1 of 2" in capsys.readouterr().err
