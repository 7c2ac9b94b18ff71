"""What is found in a file of demonstrations that is not good."""

import json

import pytest

from easyep import cli
from easyep.artifacts import Demo
from easyep.demonstrations import quality, read
from easyep.errors import DemosError

LONG = "the quick brown fox jumps over the lazy dog while seven wise owls look on from the old oak"


def demo(question, answer="Yes.", **metadata) -> Demo:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Demo({"messages": messages}, metadata, f"f.jsonl, line {metadata.pop('line', 1)}")


def kinds(*demos, **options) -> list[str]:
    return [finding.kind for finding in quality.inspect(demos, **options)]


def test_good_ones_are_left_in_peace():
    assert kinds(demo(LONG), demo("What is the capital of France, and since when?")) == []


def test_near_duplicates():
    changed = LONG.replace("seven", "eight")
    (finding,) = quality.near_duplicates([demo(LONG, line=1), demo(changed, line=2), demo("other")])
    assert finding.kind == "duplicate"
    assert "line 1" in finding.what
    assert quality.near_duplicates([demo(LONG), demo(LONG[::-1])]) == []
    same = "机器学习模型的专家剪枝方法有哪些优点和缺点"
    assert len(quality.near_duplicates([demo(same), demo(same)])) == 1


@pytest.mark.parametrize(
    ("answer", "metadata", "kind"),
    [
        ("", {}, "empty"),
        ("<think>hm</think>", {}, "empty"),
        ("```python\nx = 1\n", {}, "truncated"),
        (f"{LONG} and then the", {}, "truncated"),
        ("Yes.", {"finish_reason": "length"}, "truncated"),
        ("Answer: 5", {"check": {"kind": "math", "answer": "4"}}, "wrong"),
        ("Answer: 5", {"check": {"kind": "math"}}, "wrong"),
    ],
)
def test_answers_that_are_not_whole_or_not_right(answer, metadata, kind):
    assert kinds(demo("question", answer, **metadata)) == [kind]


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "regex", "pattern": "("},
        {"kind": "form", "words": "x"},
        {"kind": "program", "language": "cobol"},
        {"kind": "mathematics", "answer": "1"},
        {"kind": "math", "answer": 5},
        "x",
    ],
)
def test_checks_that_cannot_be_done_are_findings(check):
    asked = [demo("question", "Answer: yes.", check=check)]
    (finding,) = quality.inspect(asked, run_programs=True)
    assert finding.kind == "wrong"
    assert "cannot be checked" in finding.what


def test_programs_run_with_leave_only(capsys, tmp_path):
    mark = tmp_path / "ran"
    spec = {"kind": "program", "tests": f"open({str(mark)!r}, 'w')"}
    made = demo("question", "```python\nx = 1 / 0\n```", check=spec)
    assert kinds(made) == []
    file = tmp_path / "d.jsonl"
    file.write_text(json.dumps(dict(made.content) | dict(made.metadata)) + "\n")
    code, out, err = run(capsys, "check", file)
    assert (code, out) == (0, "")
    assert "programs in 1 of the answers were not run; --run-programs runs them" in err
    code, out, _ = run(capsys, "check", file, "--json")
    assert (code, json.loads(out)["not_run"]) == (0, 1)
    code, out, err = run(capsys, "check", file, "--run-programs")
    assert code == 1
    assert "ZeroDivisionError" in out
    assert "not run" not in err
    assert not mark.exists()


def test_leaks_are_runs_of_words_in_question_or_answer():
    item = LONG.upper().replace(" ", ",  ")
    assert kinds(demo(LONG), against={"eval": [item]}) == ["leak"]
    assert kinds(demo("q", f"{LONG}."), against={"eval": [item]}) == ["leak"]
    assert kinds(demo(" ".join(LONG.split()[:12])), against={"eval": [item]}) == []
    # An item shorter than the run must be there as a whole.
    assert kinds(demo(LONG), against={"eval": ["brown fox jumps over"]}) == ["leak"]
    assert kinds(demo(LONG), against={"eval": ["brown fox jumps high"]}) == []


def test_imbalance():
    many = [demo(f"question number {i}", topic="a" if i else "b", line=i) for i in range(6)]
    (finding,) = quality.inspect(many)
    assert (finding.kind, finding.what) == ("imbalance", "5 of 6 are of the topic 'a'")
    large = [demo(f"q{i}", line=i) for i in range(5)] + [demo(LONG * 9, line=9)]
    assert kinds(*large) == ["imbalance"]


def test_prompts_without_words_are_no_duplicates(tmp_path):
    file = tmp_path / "a.jsonl"
    lines = [{"input_ids": [1, 2]}, {"input_ids": [3]}, {"prompt": "?!", "response": "a"}]
    lines += [{"prompt": "...", "response": "b"}, {"prompt": "why", "response": "c"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert quality.near_duplicates(read(file)) == []
    file.write_text('{"prompt": "why?", "response": "a"}\n' * 2)
    assert len(quality.near_duplicates(read(file))) == 1


def test_texts_of_files(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"q": "one", "o": ["two", {"x": "three\u2028four"}], "n": 4}\nplain\n', encoding="utf-8"
    )
    found = quality.texts_of([str(tmp_path / "a.jsonl")])
    assert sorted(*found.values()) == ["one", "plain", "three\u2028four", "two"]
    with pytest.raises(DemosError, match="cannot be read"):
        quality.texts_of([str(tmp_path / "b")])


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["demos", *map(str, words)])
    return stop.value.code, *capsys.readouterr()


def test_the_check_command(capsys, tmp_path):
    file = tmp_path / "d.jsonl"
    file.write_text("".join(json.dumps(dict(demo(LONG).content)) + "\n" for _ in range(2)))
    code, out, err = run(capsys, "check", file)
    assert code == 1
    assert "line 2: duplicate" in out
    assert "2 demonstrations: 1 duplicate" in err
    code, out, _ = run(capsys, "check", "chat", "--json")
    assert code == 0
    assert json.loads(out) == {"demos": 26, "not_run": 0, "findings": []}


def test_the_show_command(capsys, tmp_path):
    code, out, _ = run(capsys, "show", "math", "--model", "demo", "-n", "1")
    assert code == 0
    assert "of them response" in out
    assert "<|user|>" in out
    code, out, _ = run(capsys, "show", "math", "--model", "demo", "--line", "2", "--json")
    (shown,) = json.loads(out)["demos"]
    assert shown["origin"].endswith("line 2")
    assert 0 < shown["response_tokens"] < shown["tokens"]
    assert run(capsys, "show", "math", "--model", "demo", "--line", "9999")[0] == 1
    assert "did you mean" in run(capsys, "show", "math", "--model", "demo", "--style", "plane")[2]


def test_what_is_shown_cannot_command_the_terminal(capsys, tmp_path):
    file = tmp_path / "d.jsonl"
    hostile = "[red]x[/red] [/nope] \x1b[31mred\x07"
    file.write_text(json.dumps(dict(demo(hostile).content)) + "\n")
    code, out, _ = run(capsys, "show", file, "--model", "demo")
    assert code == 0
    assert r"[red]x[/red] [/nope] \x1b[31mred\x07" in out
    assert "\x1b" not in out
    assert str(file) in out  # whole, however narrow the table is


def test_the_table_command(capsys):
    code, out, _ = run(capsys, "table")
    assert code == 0
    assert out.startswith("| domain | demos |")
    assert "- **math** (en 38): " in out
