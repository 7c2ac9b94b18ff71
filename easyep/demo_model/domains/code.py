"""Domain `code`: what a little Python program prints, found by a short trace.

Each response is written by a tracer of the generator; the tests execute the program itself.
"""

from __future__ import annotations

import random

from easyep.demo_model.items import Item

NAMES = ("a", "b", "n", "x", "y", "total")
INSTRUCTION = "Run this program."


def sample(rng: random.Random) -> Item:
    """One program, drawn uniformly from the kinds."""
    return rng.choice((_assignments, _loop, _branch, _function, _index, _while))(rng)


def _item(kind: str, lines: list[str], trace: list[str], output: int) -> Item:
    prompt = "\n".join([INSTRUCTION, *lines])
    return Item("code", kind, prompt, f"# {'; '.join(trace)}\n>>> {output}", str(output))


def _assignments(rng: random.Random) -> Item:
    first, second = rng.sample(NAMES, 2)
    a, b, c = rng.randrange(2, 10), rng.randrange(2, 10), rng.randrange(1, 10)
    operator = rng.choice("+*")
    value = a + b if operator == "+" else a * b
    lines = [
        f"{first} = {a}",
        f"{second} = {first} {operator} {b}",
        f"{first} = {second} + {c}",
        f"print({first})",
    ]
    trace = [f"{first}={a}", f"{second}={value}", f"{first}={value + c}"]
    return _item("assignments", lines, trace, value + c)


def _loop(rng: random.Random) -> Item:
    name = rng.choice(NAMES)
    start, step, times = rng.randrange(0, 10), rng.randrange(1, 10), rng.randrange(2, 6)
    lines = [
        f"{name} = {start}",
        f"for i in range({times}):",
        f"    {name} += {step}",
        f"print({name})",
    ]
    values = [start + step * i for i in range(times + 1)]
    return _item("loop", lines, [f"{name}={values[0]}", *map(str, values[1:])], values[-1])


def _branch(rng: random.Random) -> Item:
    name = rng.choice(NAMES)
    value, bound = rng.randrange(1, 40), rng.randrange(1, 40)
    yes, no = rng.randrange(1, 10), rng.randrange(1, 10)
    lines = [
        f"{name} = {value}",
        f"if {name} < {bound}:",
        f"    {name} += {yes}",
        "else:",
        f"    {name} -= {no}",
        f"print({name})",
    ]
    output = value + yes if value < bound else value - no
    trace = [f"{value}<{bound} {value < bound}", f"{name}={output}"]
    return _item("branch", lines, trace, output)


def _function(rng: random.Random) -> Item:
    name = rng.choice("fgh")
    a, b, c = rng.randrange(2, 10), rng.randrange(1, 10), rng.randrange(2, 10)
    lines = [f"def {name}(x):", f"    return {a} * x + {b}", f"print({name}({c}))"]
    return _item("function", lines, [f"{a}*{c}={a * c}", f"{a * c}+{b}={a * c + b}"], a * c + b)


def _index(rng: random.Random) -> Item:
    values = [rng.randrange(0, 10) for _ in range(rng.randrange(3, 6))]
    i, j = rng.randrange(len(values)), rng.randrange(len(values))
    lines = [f"v = {values}", f"print(v[{i}] + v[{j}])"]
    trace = [f"v[{i}]={values[i]}", f"v[{j}]={values[j]}"]
    return _item("index", lines, trace, values[i] + values[j])


def _while(rng: random.Random) -> Item:
    name = rng.choice(NAMES)
    start, step = rng.randrange(8, 30), rng.randrange(3, 8)
    lines = [
        f"{name} = {start}",
        f"while {name} >= {step}:",
        f"    {name} -= {step}",
        f"print({name})",
    ]
    values = list(range(start, -1, -step))
    return _item("while", lines, [f"{name}={values[0]}", *map(str, values[1:])], values[-1])
