"""The nouns of evaluation: what lm-eval measured on a model's tasks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class TaskAccuracy:
    """One metric of one task, or of a group of tasks.

    Attributes:
        task: the name of the task or group.
        metric: metric and filter as lm-eval names them, ``"exact_match,answer"``.
        value: the metric, in [0, 1] for accuracies.
        stderr: its standard error as lm-eval computes it; None where it gives none.
        samples: items evaluated.
        version: the task's version.
        part_of: the group that counts this task, where the group has a result; else empty.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    samples: int
    version: str
    part_of: str = ""


@dataclass(frozen=True)
class Accuracy:
    """What lm-eval measured on one model.

    Attributes:
        results: one entry per task and metric.
        settings: everything that the numbers depend on besides model and tasks.
        harness: what lm-eval gave, in its own form: ``results``, ``groups``, ``configs``,
            ``versions``, ``samples`` and more. Not part of `to_json`.
    """

    results: tuple[TaskAccuracy, ...]
    settings: dict[str, Any]
    harness: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        return {"results": [asdict(result) for result in self.results], "settings": self.settings}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Accuracy":
        """What `to_json` made."""
        return cls(tuple(TaskAccuracy(**r) for r in value["results"]), value["settings"])

    @property
    def shown(self) -> tuple[TaskAccuracy, ...]:
        """The results without those of tasks whose group is there."""
        return tuple(result for result in self.results if not result.part_of)


def merged(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What lm-eval gave for several tasks, as if it had run them together."""
    together: dict[str, Any] = {}
    for measured in found:
        for key, value in measured.items():
            if isinstance(value, dict):
                together.setdefault(key, {}).update(value)
            else:
                together[key] = value
    return together


def results_of(measured: Mapping[str, Any]) -> Iterator[TaskAccuracy]:
    """Every metric of every task and group in what lm-eval gave."""
    groups = measured.get("group_subtasks", {})
    counts = {task: int(n["effective"]) for task, n in measured["n-samples"].items()}
    found = {**measured["results"], **measured.get("groups", {})}
    part_of = {part: group for group, parts in groups.items() if group in found for part in parts}
    for task, metrics in found.items():
        parts = [task] if task in counts else leaves(task, groups)
        items = sum(counts.get(part, 0) for part in parts)
        for name, value in metrics.items():
            metric, _, kind = name.partition(",")
            if not kind or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            stderr = metrics.get(f"{metric}_stderr,{kind}")
            yield TaskAccuracy(
                task=task,
                metric=name,
                value=float(value),
                stderr=None if stderr in (None, "N/A") else float(stderr),
                samples=items,
                version=str(measured["versions"].get(task, "")),
                part_of=part_of.get(task, ""),
            )


def leaves(group: str, groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The tasks of a group, also those of groups inside of it."""
    if group not in groups or not groups[group]:
        yield group
    for part in groups.get(group, ()):
        yield from leaves(part, groups)
