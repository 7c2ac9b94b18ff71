"""Whether an answer is right, by what a demonstration says about itself.

A demonstration's `check` names a kind and what that kind needs; each kind is one function here.
The same checks hold for the answers that come with easyep and for those that a model generates.
"""

import itertools
import json
import re
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from easyep.demonstrations import programs
from easyep.demonstrations.equality import final_answer, same_value
from easyep.errors import DemosError
from easyep.registry import unknown_name

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


def check(answer: str, spec: Mapping[str, Any]) -> str:
    """What is wrong with an answer; empty where nothing is.

    Args:
        answer: the whole response, without its thinking.
        spec: the `check` of a demonstration.

    Raises:
        UnknownNameError: the kind is unknown.
        DemosError: the spec lacks what its kind needs, or this machine cannot check it.
    """
    kind = str(spec.get("kind"))
    if kind not in KINDS:
        raise unknown_name("kind of check", kind, KINDS)
    try:
        return KINDS[kind](answer, spec)
    except KeyError as error:
        raise DemosError(f"a check of kind {kind!r} needs {error}") from None
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise DemosError(f"a check of kind {kind!r} cannot be done so: {error}") from None


def runs_program(spec: Any) -> bool:
    """Whether doing this check runs a program that stands in an answer."""
    return isinstance(spec, Mapping) and spec.get("kind") == "program"


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


def _math(answer: str, spec: Mapping[str, Any]) -> str:
    found = final_answer(answer)
    return "" if same_value(found, spec["answer"]) else f"{found!r} is not {spec['answer']!r}"


def _choice(answer: str, spec: Mapping[str, Any]) -> str:
    found = re.search(r"\(?\b([A-J])\b\)?", re.sub(r"\\(?:text|mathrm)", "", final_answer(answer)))
    letter = found[1] if found else ""
    return "" if letter == spec["answer"] else f"{letter or 'no letter'}, not {spec['answer']}"


def _exact(answer: str, spec: Mapping[str, Any]) -> str:
    found = " ".join(final_answer(answer).split()).casefold()
    wanted = " ".join(str(spec["answer"]).split()).casefold()
    return "" if found == wanted else f"{found!r} is not {wanted!r}"


def _regex(answer: str, spec: Mapping[str, Any]) -> str:
    return "" if re.search(spec["pattern"], answer, re.S) else f"no match of {spec['pattern']!r}"


def _program(answer: str, spec: Mapping[str, Any]) -> str:
    """Run the answer's last code block, between `before` and `tests`; or once for each input."""
    language = spec.get("language", "python")
    code = programs.code_in(answer, language)
    if not code:
        return f"no code block in {language}"
    for case in spec.get("cases", [{"input": ""}]):
        source = "\n".join([spec.get("before", ""), code, spec.get("tests", "")])
        outcome = programs.run(source, language, stdin=case["input"])
        if outcome.code:
            return f"exit status {outcome.code}: {outcome.errors.strip()[-300:]}"
        wanted = case.get("output", spec.get("output"))
        if wanted is not None and outcome.output.split() != wanted.split():
            return f"printed {outcome.output.strip()[:200]!r}, not {wanted.strip()[:200]!r}"
    return ""


def _form(answer: str, spec: Mapping[str, Any]) -> str:
    """What the request asked for and can be counted."""
    words = len(answer.split())
    low, high = spec.get("words", (1, 1 << 30))
    if not low <= words <= high:
        return f"{words} words, not {low} to {high}"
    lines = [line for line in answer.splitlines() if line.strip()]
    if "lines" in spec and len(lines) != spec["lines"]:
        return f"{len(lines)} lines, not {spec['lines']}"
    for text in spec.get("contains", ()):
        if text.casefold() not in answer.casefold():
            return f"{text!r} is missing"
    for text in spec.get("absent", ()):
        if re.search(rf"\b{re.escape(text)}\b", answer, re.I):
            return f"{text!r} should not be there"
    if spec.get("json"):
        try:
            json.loads(_json_in(answer))
        except ValueError as error:
            return f"not JSON: {error}"
    return ""


def _json_in(answer: str) -> str:
    """The JSON block of an answer, or the answer."""
    found = re.findall(r"^```json\n(.*?)^```", answer, re.M | re.S)
    return str(found[-1]) if found else answer


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


KINDS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "math": _math,
    "choice": _choice,
    "exact": _exact,
    "regex": _regex,
    "program": _program,
    "form": _form,
}
