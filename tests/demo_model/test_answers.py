"""The answers are right: each domain is checked by a way that the generator does not use."""

from __future__ import annotations

import contextlib
import io
import json
import operator
import random
import re
from collections import Counter
from collections.abc import Callable

import pytest

from easyep.demo_model.domains import DOMAINS, code, facts, lexicon, stories
from easyep.demo_model.items import Item

SAMPLES = 600
OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def evaluate(formula: str) -> float:
    """From left to right; no formula of the worked steps mixes operators of different rank."""
    first, *rest = formula.split()
    value: float = int(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        value = OPERATORS[sign](value, int(number))
    return value


def solve_math(item: Item) -> str:
    numbers = [int(n) for n in re.findall(r"\d+", item.prompt)]
    formulas: dict[str, Callable[..., float]] = {
        "addition": lambda a, b: a + b,
        "subtraction": lambda a, b: a - b,
        "product": lambda a, b: a * b,
        "gain_and_loss": lambda a, b, c: a + b - c,
        "packs": lambda a, b, c: a * b + c,
        "sharing": lambda total, kept, friends: (total - kept) / friends,
    }
    value = formulas[item.kind](*numbers)
    assert value == int(value)
    assert value >= 0
    # Every step of the working is a true equation.
    for left, right in re.findall(r"([\d +*/-]+) = (\d+)", item.response):
        assert evaluate(left) == int(right), item.response
    return str(int(value))


def solve_code(item: Item) -> str:
    program = item.prompt.removeprefix(code.INSTRUCTION + "\n")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, {})
    return printed.getvalue().strip()


def solve_facts(item: Item) -> str:
    subjects = {
        getattr(country, attribute): country
        for country in facts.ATLAS
        for attribute in ("name", "capital", "ruler")
    }
    (country,) = {subjects[name] for name in subjects if re.search(rf"\b{name}\b", item.prompt)}
    attribute = "name" if item.kind.startswith("country of") else item.kind
    return str(getattr(country, attribute))


def solve_strings(item: Item) -> str:
    quoted = re.findall(r"'([^']*)'", item.prompt)
    solutions: dict[str, Callable[[], str]] = {
        "reverse": lambda: " ".join(quoted[0][::-1]),
        "spell": lambda: " ".join(list(quoted[0])),
        "count": lambda: str(Counter(quoted[1])[quoted[0]]),
        "upper": lambda: quoted[0].upper(),
        "join": lambda: quoted[0].replace(" ", quoted[1]),
        "sort": lambda: " ".join(sorted(quoted[0].split())),
        "length": lambda: str(len(quoted[0])),
        "repeat": lambda: " ".join(quoted[0] for _ in range(int(item.prompt.split()[-2]))),
        "ends": lambda: f"{quoted[0][0]} {quoted[0][-1]}",
    }
    return solutions[item.kind]()


def read_umbrish(text: str) -> str:
    """A small parser: Umbrish -> English."""
    nouns = {umbrish: (one, many) for one, (many, umbrish) in lexicon.NOUNS.items()}
    verbs = {forms[2]: (base, *forms[:2]) for base, forms in lexicon.VERBS.items()}
    adjectives = {umbrish: english for english, umbrish in lexicon.ADJECTIVES.items()}
    first, *rest = text.split()
    tense = {"ka": "past", "su": "future"}.get(rest[0], "present")
    if tense != "present":
        rest = rest[1:]
    phrases: list[str] = []
    plurals = []
    for word in rest:
        if word in adjectives:
            phrases[-1] = f"the {adjectives[word]} {phrases[-1].removeprefix('the ')}"
        else:
            plurals.append(word.endswith("-im"))
            phrases.append(f"the {nouns[word.removesuffix('-im')][plurals[-1]]}")
    base, third, past = verbs[first]
    verb = {"past": past, "future": f"will {base}", "present": base if plurals[0] else third}[tense]
    return f"{phrases[0]} {verb} {phrases[1]}"


def solve_lexicon(item: Item) -> str:
    question = item.prompt.split(": ", 1)[1]
    if item.kind == "to english":
        return read_umbrish(question)
    assert read_umbrish(item.answer) == question
    return item.answer


def solve_tools(item: Item) -> str:
    call = json.loads(item.answer)
    assert list(call) == ["tool", "args"]
    for value in call["args"].values():
        assert re.search(rf"\b{re.escape(str(value))}\b", item.prompt), item
    numbers = [value for value in call["args"].values() if isinstance(value, int)]
    assert sorted(numbers) == sorted(int(n) for n in re.findall(r"\d+", item.prompt))
    return item.answer


SOLVERS: dict[str, Callable[[Item], str]] = {
    "math": solve_math,
    "code": solve_code,
    "facts": solve_facts,
    "strings": solve_strings,
    "lexicon": solve_lexicon,
    "tools": solve_tools,
}


@pytest.mark.parametrize("domain", DOMAINS)
def test_answers_are_right(domain: str) -> None:
    rng = random.Random(3)
    for _ in range(SAMPLES):
        item = DOMAINS[domain](rng)
        assert item.domain == domain
        assert SOLVERS[domain](item) == item.answer, item
        assert item.response.rstrip(".").endswith(item.answer)


@pytest.mark.parametrize("domain", DOMAINS)
def test_one_question_has_one_answer(domain: str) -> None:
    rng = random.Random(4)
    answers: dict[str, str] = {}
    for _ in range(5000):
        item = DOMAINS[domain](rng)
        assert answers.setdefault(item.key, item.answer) == item.answer


def test_the_atlas_has_no_name_twice() -> None:
    names = [n for c in facts.ATLAS for n in (c.name, c.capital, c.ruler)]
    assert len(set(names)) == 3 * 40


def test_umbrish_words_mean_one_thing() -> None:
    words = [umbrish for _, umbrish in lexicon.NOUNS.values()]
    words += [forms[2] for forms in lexicon.VERBS.values()]
    words += [*lexicon.ADJECTIVES.values(), "ka", "su"]
    assert len(set(words)) == len(words)


def test_every_evaluated_fact_is_trained_in_other_words() -> None:
    for attribute, (wordings, _) in facts.QUESTIONS.items():
        for country in facts.ATLAS:
            splits = [facts.ask(country, attribute, w).split for w in range(len(wordings))]
            assert splits.count("train") >= 2, (country.name, attribute)


def test_stories_are_text() -> None:
    story = stories.sample(random.Random(5))
    assert story.endswith(".")
    assert 100 < len(story) < 600
