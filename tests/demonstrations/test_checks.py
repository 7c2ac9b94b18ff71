"""What counts as a right answer."""

import pytest

from easyep.demonstrations import checks
from easyep.errors import DemosError, UnknownNameError

ADD = "```python\ndef add(a, b):\n    return a {} b\n```"


@pytest.mark.parametrize(
    ("answer", "spec"),
    [
        (r"\boxed{\frac{1}{2}}", {"kind": "math", "answer": "0.5"}),
        ("Answer: **(C)**", {"kind": "choice", "answer": "C"}),
        (r"\boxed{\text{B}}", {"kind": "choice", "answer": "B"}),
        ("The answer is New  York.", {"kind": "exact", "answer": "new york"}),
        ("it is 42 m", {"kind": "regex", "pattern": r"\b42\b"}),
        (ADD.format("+"), {"kind": "program", "tests": "assert add(1, 2) == 3"}),
        (
            "```python\nprint(int(input()) * 2)\n```",
            {"kind": "program", "cases": [{"input": "2", "output": "4"}]},
        ),
        ("one two three", {"kind": "form", "words": [3, 3], "lines": 1, "absent": ["tw"]}),
        ('```json\n{"a": 1}\n```', {"kind": "form", "json": True}),
    ],
)
def test_right_answers(answer, spec):
    assert checks.check(answer, spec) == ""


@pytest.mark.parametrize(
    ("answer", "spec", "why"),
    [
        (r"\boxed{3}", {"kind": "math", "answer": "4"}, "'3' is not '4'"),
        ("Answer: D", {"kind": "choice", "answer": "C"}, "D, not C"),
        ("I do not know.", {"kind": "choice", "answer": "C"}, "not C"),
        ("Answer: York", {"kind": "exact", "answer": "New York"}, "is not"),
        ("x", {"kind": "regex", "pattern": "y"}, "no match"),
        (ADD.format("-"), {"kind": "program", "tests": "assert add(1, 2) == 3"}, "exit status 1"),
        ("no code", {"kind": "program"}, "no code block in python"),
        (
            "```python\nprint(5)\n```",
            {"kind": "program", "cases": [{"input": "", "output": "4"}]},
            "printed '5', not '4'",
        ),
        ("one two", {"kind": "form", "words": [3, 9]}, "2 words"),
        ("one\ntwo", {"kind": "form", "lines": 1}, "2 lines"),
        ("one", {"kind": "form", "contains": ["two"]}, "missing"),
        ("one two", {"kind": "form", "absent": ["two"]}, "should not be there"),
        ("{", {"kind": "form", "json": True}, "not JSON"),
        ("[" * 200_000, {"kind": "form", "json": True}, "not JSON"),
    ],
)
def test_wrong_answers(answer, spec, why):
    assert why in checks.check(answer, spec)


def test_a_check_that_is_none():
    with pytest.raises(UnknownNameError, match="did you mean 'math'"):
        checks.check("", {"kind": "maths"})
    with pytest.raises(DemosError, match=r"kind 'math' needs 'answer'"):
        checks.check("", {"kind": "math"})
    for pattern in ("(", "a{99999999999999999999}", "(" * 5000, 5):
        with pytest.raises(DemosError, match="'regex' cannot be done so"):
            checks.check("a", {"kind": "regex", "pattern": pattern})


def test_a_pattern_that_never_comes_to_an_end(monkeypatch):
    monkeypatch.setattr(checks, "_LONGEST_SEARCH", 0.2)
    with pytest.raises(DemosError, match=r"'regex' cannot be done so: it takes more than 0\.2 sec"):
        checks.check("a" * 40 + "b", {"kind": "regex", "pattern": "^(a+)+$"})
