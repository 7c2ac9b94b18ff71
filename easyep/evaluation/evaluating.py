"""Evaluates a model task by task, and remembers what is finished."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from easyep.artifacts.files import read_json, write_json
from easyep.atomic import writing
from easyep.errors import ArtifactError, EvaluationError
from easyep.evaluation import tasks as task_files
from easyep.evaluation.accuracy import Accuracy, merged, results_of
from easyep.evaluation.asking import Asking
from easyep.evaluation.harness import Harness
from easyep.evaluation.suites import Asked
from easyep.progress import SILENT, Progress

Tasks = Sequence[str | Asked]


def evaluate(
    asking: Asking,
    tasks: Tasks,
    *,
    limit: int | None = None,
    unsafe: bool = False,
    folder: Path | None = None,
    title: str = "Evaluating",
    progress: Progress = SILENT,
) -> Accuracy:
    """Evaluate a checkpoint.

    Args:
        asking: the model, and how it is reached.
        tasks: names of `eval/tasks/` or of lm-eval; an `Asked` says how one is asked. The chat
            template is applied wherever there is one.
        limit: only the first so many items of each task; for trying things out.
        unsafe: run code that the model writes, on this machine; code tasks need it.
        folder: where finished tasks are kept, and answers of unfinished ones; what is there for
            the same weights, task and settings is not measured again.

    Raises:
        MissingDependencyError: lm-eval or the backend is not installed.
        EvaluationError: a task is unknown or cannot be run.
        OutputError: `folder` cannot be written.
        EasyEPError: a subclass says what is wrong with the checkpoint.
    """
    answers = None
    if folder is not None:
        answers = folder / f"answers-{_digest({**asking.identity, 'form': 'json'})}.db"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    harness = Harness(asking.open, asking.chats, limit, unsafe, answers, progress)
    run = _Run(harness, asking, folder)
    return run.all(tasks, title, progress)


def evaluate_checkpoint(
    path: Path,
    tasks: Tasks,
    *,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    limit: int | None = None,
    trust_remote_code: bool = False,
    title: str = "Evaluating",
    progress: Progress = SILENT,
) -> Accuracy:
    """Load a checkpoint in this process and evaluate it; arguments as in `evaluate`."""
    asking = Asking(
        path,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        trust_remote_code=trust_remote_code,
    )
    return evaluate(asking, tasks, limit=limit, title=title, progress=progress)


@dataclass(frozen=True)
class _Run:
    """One evaluation under way.

    Attributes:
        harness: what measures.
        asking: what is measured.
        folder: as in `evaluate`.
    """

    harness: Harness
    asking: Asking
    folder: Path | None

    def all(self, tasks: Tasks, title: str, progress: Progress) -> Accuracy:
        planned = list(_planned(tasks))
        if not planned:
            raise EvaluationError("give at least one task")
        found = [self._remembered(asked) for asked, _ in planned]
        missing = [plan for plan, done in zip(planned, found, strict=True) if done is None]
        if missing:
            self.harness.prepare([task for _, task in missing if isinstance(task, str)])
        try:
            with progress.task(title, len(missing), "tasks") as bar:
                for i, (asked, task) in enumerate(planned):
                    if found[i] is None:
                        found[i] = self.harness.measure(task, asked)
                        self._remember(asked, found[i])
                        bar.advance()
        finally:
            self.harness.close()
        measured = merged([done for done in found if done is not None])
        settings = self._settings(measured["config"], planned)
        return Accuracy(tuple(results_of(measured)), settings, measured)

    def _file(self, asked: Asked) -> Path | None:
        if self.folder is None:
            return None
        key = {
            **self.asking.identity,
            "task": task_files.fingerprint(asked.task),
            "asked": asked.to_json(),
            "limit": self.harness.limit,
        }
        return self.folder / f"{asked.task}-{_digest(key)}.json"

    def _remembered(self, asked: Asked) -> dict[str, Any] | None:
        file = self._file(asked)
        return remembered(file) if file is not None and file.exists() else None

    def _remember(self, asked: Asked, measured: Mapping[str, Any] | None) -> None:
        file = self._file(asked)
        if file is not None and measured is not None:
            write_json(file, measured)

    def _settings(
        self, config: Mapping[str, Any], planned: Sequence[tuple[Asked, Any]]
    ) -> dict[str, Any]:
        from importlib.metadata import version

        asking = self.asking
        return {
            "lm_eval": version("lm_eval"),
            "model": asking.identity["model"],
            "masked": asking.selection is not None,
            "backend": asking.backend,
            "model_args": asking.open_args,
            "dtype": config["model_dtype"] or asking.dtype,
            "thinking": asking.thinking,
            "limit": config["limit"],
            "asked": [asked.to_json() for asked, _ in planned],
        }


def remembered(file: Path) -> dict[str, Any] | None:
    """What lm-eval gave for a finished task, as it was kept; None where the file is damaged."""
    try:
        measured = read_json(file, "evaluation")
        _ = measured["config"]["model_dtype"], measured["config"]["limit"]
        return measured if [*results_of(merged([measured]))] else None
    except (ArtifactError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None
    except RecursionError:  # groups of groups without an end
        return None


def _planned(tasks: Tasks) -> Iterator[tuple[Asked, str | dict[str, Any]]]:
    """Every task, and what lm-eval is to load; groups of easyep's own become their tasks."""
    for task in tasks:
        asked = task if isinstance(task, Asked) else Asked(task)
        own, others = task_files.find([asked.task])
        for definition in own:
            yield replace(asked, task=definition["task"]), definition
        for name in others:
            yield asked, name


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
