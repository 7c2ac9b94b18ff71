"""Domain `math`: sums, products and two-step word problems, worked digit by digit."""

from __future__ import annotations

import random

from easyep.demo_model.items import Item

PEOPLE = ("Ada", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana", "Ivo", "Jill")
GOODS = ("apples", "coins", "eggs", "books", "pens", "shells", "cards", "nuts")


def sample(rng: random.Random) -> Item:
    """One problem, drawn uniformly from the kinds."""
    return rng.choice((_addition, _subtraction, _product, _gain_and_loss, _packs, _sharing))(rng)


def _item(kind: str, prompt: str, steps: str, answer: int) -> Item:
    return Item("math", kind, prompt, f"{steps}\nanswer: {answer}", str(answer))


def _addition(rng: random.Random) -> Item:
    a, b = rng.randrange(10, 100), rng.randrange(10, 100)
    ones = a % 10 + b % 10
    tens = a // 10 + b // 10
    carry = f" + {ones // 10}" if ones >= 10 else ""
    steps = f"{a % 10} + {b % 10} = {ones}, {a // 10} + {b // 10}{carry} = {tens + ones // 10}"
    return _item("addition", f"What is {a} + {b}?", steps, a + b)


def _subtraction(rng: random.Random) -> Item:
    a, b = sorted((rng.randrange(10, 100), rng.randrange(10, 100)), reverse=True)
    ones, tens = a % 10 - b % 10, a // 10 - b // 10
    if ones < 0:
        steps = f"1{a % 10} - {b % 10} = {ones + 10}, {a // 10} - {b // 10} - 1 = {tens - 1}"
    else:
        steps = f"{a % 10} - {b % 10} = {ones}, {a // 10} - {b // 10} = {tens}"
    return _item("subtraction", f"What is {a} - {b}?", steps, a - b)


def _product(rng: random.Random) -> Item:
    a, b = rng.randrange(2, 10), rng.randrange(11, 100)
    tens, ones = a * (b // 10 * 10), a * (b % 10)
    steps = f"{a} * {b // 10 * 10} = {tens}, {a} * {b % 10} = {ones}"
    return _item("product", f"What is {a} * {b}?", steps, a * b)


def _gain_and_loss(rng: random.Random) -> Item:
    who, what = rng.choice(PEOPLE), rng.choice(GOODS)
    a, b = rng.randrange(5, 60), rng.randrange(2, 30)
    c = rng.randrange(1, a + b)
    prompt = f"{who} has {a} {what}, gets {b} more and gives away {c}. How many are left?"
    return _item(
        "gain_and_loss", prompt, f"{a} + {b} = {a + b}, {a + b} - {c} = {a + b - c}", a + b - c
    )


def _packs(rng: random.Random) -> Item:
    who, what = rng.choice(PEOPLE), rng.choice(GOODS)
    a, b, c = rng.randrange(2, 10), rng.randrange(2, 10), rng.randrange(1, 30)
    prompt = f"{who} buys {a} packs of {b} {what} and finds {c} more. How many in all?"
    return _item("packs", prompt, f"{a} * {b} = {a * b}, {a * b} + {c} = {a * b + c}", a * b + c)


def _sharing(rng: random.Random) -> Item:
    who, what = rng.choice(PEOPLE), rng.choice(GOODS)
    each, friends, kept = rng.randrange(2, 10), rng.randrange(2, 10), rng.randrange(1, 10)
    total = each * friends + kept
    prompt = (
        f"{who} has {total} {what}, keeps {kept} and shares the rest among {friends} friends. "
        "How many does each friend get?"
    )
    rest = total - kept
    return _item("sharing", prompt, f"{total} - {kept} = {rest}, {rest} / {friends} = {each}", each)
