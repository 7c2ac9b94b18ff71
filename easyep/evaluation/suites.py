"""Suites of tasks by domain, from `eval/suites.yaml`, and how each of their tasks is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from easyep import resources
from easyep.errors import EvaluationError
from easyep.registry import unknown_name

_KEYS = {"num_fewshot", "chat"}


@dataclass(frozen=True)
class Asked:
    """A task, and how it is asked.

    Attributes:
        task: a name of `eval/tasks/` or of lm-eval: a task, a group or a tag.
        num_fewshot: examples before each item; None leaves it to the task. A task that is defined
            with 0 keeps them, as in lm-eval.
        chat: whether the chat template is applied; None means wherever the model has one.
        generation: overrides of the task's ``generation_kwargs``.
    """

    task: str
    num_fewshot: int | None = None
    chat: bool | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "generation": dict(self.generation)}


def suites() -> list[str]:
    """The names of all suites."""
    return list(_read()["suites"])


def suite(name: str, *, thinking: bool = False) -> tuple[Asked, ...]:
    """The tasks of a suite.

    Args:
        name: of the suite.
        thinking: the model thinks before it answers.

    Raises:
        UnknownNameError: there is no such suite.
        EvaluationError: it has no tasks for models that think.
    """
    file = _read()
    if name not in file["suites"]:
        raise unknown_name("suite", name, file["suites"], "--tasks takes any task of lm-eval")
    style = "thinking" if thinking else "plain"
    if style not in file["suites"][name]:
        raise EvaluationError(
            f"the suite {name} has no tasks that leave room for thinking; --style plain asks for "
            "answers at once"
        )
    return tuple(
        Asked(task, generation=file["generation"][style], **_checked(name, task, settings))
        for task, settings in file["suites"][name][style].items()
    )


def _checked(name: str, task: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    if unknown := set(settings) - _KEYS:
        raise EvaluationError(f"eval/suites.yaml: {name}: {task}: unknown key {min(unknown)!r}")
    return settings


def _read() -> dict[str, Any]:
    file = resources.folder("eval") / "suites.yaml"
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found
