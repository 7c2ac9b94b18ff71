"""Whether an answer is right, by what a demonstration says about itself.

A demonstration's `check` names a kind and what that kind needs; each kind is one function here.
The same checks hold for the answers that come with easyep and for those that a model generates.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from easyep.demonstrations import programs
from easyep.demonstrations.equality import final_answer, same_value
from easyep.errors import DemosError
from easyep.registry import unknown_name
from easyep.time_limit import within

# Seconds for the pattern of a spec, which may have no end in sight.
_LONGEST_SEARCH = 10.0
# What is raised by a spec that holds something else than its kind takes.
_NOT_SO = (
    *(TypeError, ValueError, AttributeError, re.error),
    *(ArithmeticError, RecursionError, TimeoutError),
)


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
    except _NOT_SO as error:
        raise DemosError(f"a check of kind {kind!r} cannot be done so: {error}") from None


def runs_program(spec: Any) -> bool:
    """Whether doing this check runs a program that stands in an answer."""
    return isinstance(spec, Mapping) and spec.get("kind") == "program"


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
    found = within(_LONGEST_SEARCH, lambda: re.search(spec["pattern"], answer, re.S))
    return "" if found else f"no match of {spec['pattern']!r}"


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
        except (ValueError, RecursionError) as error:
            return f"not JSON: {error}"
    return ""


def _json_in(answer: str) -> str:
    """The JSON block of an answer, or the answer."""
    found = re.findall(r"^```json\n(.*?)^```", answer, re.M | re.S)
    return str(found[-1]) if found else answer


KINDS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "math": _math,
    "choice": _choice,
    "exact": _exact,
    "regex": _regex,
    "program": _program,
    "form": _form,
}
