"""Whether what the domains say is so: answers derived anew, tool calls held against their schemas,
sessions played again.
"""

import itertools
import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from easyep.demonstrations import programs
from easyep.errors import DemosError

# Before each `program`, which prints what the answer must be, derived in a second way.
_PREFACE = """\
from sympy import *
from itertools import *
from fractions import Fraction
import math
def pick(options, value, tolerance=0.02):
    near = [k for k, v in options.items() if abs(float(v) - float(value)) <= tolerance * abs(float(v))]
    assert len(near) == 1, (float(value), options)
    print(near[0])
"""  # noqa: E501
# All programs in one process: importing sympy takes longer than most of them.
_DRIVER = """\
import contextlib, io, json, sys
preface = {}
exec(PREFACE, preface)
results = []
for program in json.load(sys.stdin):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(program, dict(preface))
        results.append([out.getvalue().strip(), ""])
    except BaseException as error:
        results.append(["", f"{type(error).__name__}: {error}"])
json.dump(results, sys.stdout)
"""


def second_results(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the `program` of each check prints: its answer, derived another way.

    Raises:
        DemosError: a program fails; the message has what it said.
    """
    written = [spec["program"] for spec in specs]
    driver = f"PREFACE = {_PREFACE!r}\n{_DRIVER}"
    outcome = programs.run(driver, stdin=json.dumps(written), seconds=300)
    if outcome.code:
        raise DemosError(f"the second derivations failed: {outcome.errors.strip()[-300:]}")
    results = json.loads(outcome.output)
    for program, (_, error) in zip(written, results, strict=True):
        if error:
            raise DemosError(f"the second derivation {program[:80]!r} failed: {error}")
    return [text for text, _ in results]


def check_calls(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with a conversation's tool calls, by the schemas of its tools."""
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    for message in messages:
        for call in message.get("tool_calls") or ():
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            if name not in schemas:
                return f"there is no tool {name!r}"
            known = schemas[name].get("properties", {})
            for missing in set(schemas[name].get("required", ())) - set(arguments):
                return f"{name} lacks {missing!r}"
            for key, value in arguments.items():
                wrong = key not in known or not _fits(value, known[key])
                if wrong:
                    return f"{name} does not take {key}={value!r}"
    return ""


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is of a JSON schema's type and among its choices."""
    kinds: dict[str, tuple[type, ...]] = {
        "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
        "array": (list,), "object": (dict,),
    }  # fmt: skip
    kind = schema.get("type", "object")
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    if isinstance(value, list):
        return all(_fits(item, schema.get("items", {"type": "string"})) for item in value)
    return "enum" not in schema or value in schema["enum"]


def check_session(messages: Sequence[Mapping[str, Any]], setup: str) -> str:
    """Run a shell session's commands again and compare what they print; empty where all agrees.

    Args:
        messages: a conversation whose assistant acts in a shell: by calls of a tool with a
            `command`, or in blocks of ``bash``; the message after each is what was printed.
        setup: a script that makes the files the session starts from.
    """
    with tempfile.TemporaryDirectory(prefix="easyep-") as folder:
        made = programs.execute(["bash", "-c", setup], folder)
        if made.code:
            return f"the setup failed: {made.errors.strip()}"
        for message, following in itertools.pairwise(messages):
            command = _command(message)
            if command is None:
                continue
            done = programs.execute(["bash", "-c", command], folder)
            printed = (done.output + done.errors).strip()
            told = str(following["content"]).strip()
            if printed != told:
                return f"{shlex.quote(command)} printed {printed!r}, not {told!r}"
    return ""


def _command(message: Mapping[str, Any]) -> str | None:
    if message["role"] != "assistant":
        return None
    for call in message.get("tool_calls") or ():
        command = call["function"]["arguments"].get("command")
        return None if command is None else str(command)
    return programs.code_in(str(message.get("content") or ""), "bash") or None
