"""Final answers and their values."""

import time

import pytest

from easyep.demonstrations import equality
from easyep.demonstrations.equality import final_answer, parse, same_value
from easyep.errors import DemosError


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (r"so $x = \boxed{\frac{1}{2}}$, not \boxed{3}? No: $\boxed{\sqrt{\frac{a}{b}}}$.",
         r"\sqrt{\frac{a}{b}}"),
        ("We add.\nAnswer: 1,234", "1,234"),
        ("The answer is **C**.", "C"),
        ("first line\n42", "42"),
        ("", ""),
    ],
)  # fmt: skip
def test_where_the_answer_stands(response, expected):
    assert final_answer(response) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{3}{4}", "0.75"),
        (r"\frac27", "2/7"),
        (r"\dfrac{\sqrt{5}-1}{2}", "(sqrt(5)-1)/2"),
        (r"2\sqrt{3}", "√12"),
        (r"\frac{\sqrt5}{2}", "sqrt(5)/2"),
        ("1,234", "1234"),
        (r"1{,}000\,000", "10^6"),
        ("x = 5", "5"),
        ("$3\\pi/2$", r"\frac{3\pi}{2}"),
        (r"\binom{10}{3}", "120"),
        (r"45^\circ", "45"),
        (r"\sqrt[3]{8}", "2"),
        (r"\ln 2 + \ln 3", "log(6)"),
        ("(1, -2)", r"\left(1, -2\right)"),
        ("x^2+2x+1", "(x+1)^2"),
        ("2^{x} 2", "2^{x+1}"),
        (r"5\text{ cm}", "5"),
        ("0.3333333", "1/3"),
        (r"\cos\left(\frac{\pi}{3}\right)", "1/2"),
    ],
)
def test_values_that_are_the_same(one, other):
    assert same_value(one, other)
    assert same_value(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("7", "8"), ("0.333", "1/3"), ("(1,2)", "(2,1)"), ("(1,2)", "1"), ("a", "b"), ("", "0"),
     (r"\sqrt{2}", "1.414"), ("no idea", "3")],
)  # fmt: skip
def test_values_that_differ(one, other):
    assert not same_value(one, other)


@pytest.mark.parametrize(
    "hostile",
    ["__import__('os').system('x')", "9**9**9", "2^{99999999}", r"\binom{99999999}{5555}",
     "().__class__", "lambda: 1", "1" * 1000, "(" * 300, "((9^{4000})^{4000})^{4000}",
     "(1.5^{4000})^{4000}"],
)  # fmt: skip
def test_nothing_is_executed_and_nothing_runs_away(hostile):
    with pytest.raises(DemosError):
        parse(hostile)


def test_a_comparison_without_an_end_ends(monkeypatch):
    assert not same_value("1", "2")  # sympy is imported
    monkeypatch.setattr(equality, "LONGEST_COMPARISON", 0.5)
    begin = time.monotonic()
    assert not same_value("(x+1)^{4000}", "(x+2)^{4000}")
    assert time.monotonic() - begin < 30


def test_white_space_costs_nothing():
    begin = time.monotonic()
    assert final_answer("answer" + "\n" * 3000) == "answer"
    assert time.monotonic() - begin < 5
