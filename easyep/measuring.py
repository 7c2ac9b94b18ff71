"""What a model can do: its accuracy on tasks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from easyep import choices
from easyep.artifacts import Selection
from easyep.artifacts.files import opened
from easyep.demonstrations.conversation import STYLES, Style, thinks
from easyep.errors import EvaluationError
from easyep.evaluation import evaluating
from easyep.evaluation.accuracy import Accuracy
from easyep.evaluation.asking import Asking
from easyep.evaluation.suites import Asked, suite
from easyep.evaluation.tasks import default_tasks
from easyep.models import Model, resolve
from easyep.places import work_directory
from easyep.progress import SILENT, Progress

PathLike = str | os.PathLike[str]


def evaluate(
    model: PathLike,
    tasks: str | Sequence[str] | None = None,
    *,
    suites: str | Sequence[str] = (),
    selection: Selection | PathLike | None = None,
    backend: str = "hf",
    model_args: Mapping[str, Any] | None = None,
    gen_kwargs: Mapping[str, Any] | None = None,
    style: Style | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    confirm_run_unsafe_code: bool = False,
    trust_remote_code: bool = False,
    work_dir: PathLike | None = None,
    progress: Progress = SILENT,
) -> Accuracy:
    """Measure accuracy with lm-evaluation-harness.

    Args:
        model: a directory, a short name, or a repository id.
        tasks: names of `eval/tasks/` or of lm-eval; by default, where there are no `suites`
            either, those that easyep has for the model.
        suites: names of `eval/suites.yaml`: tasks of a domain with the settings that are usual.
        selection: the experts that may be reached (or a file of them): the model is evaluated as
            if it had been pruned, and nothing is written.
        backend, model_args: how lm-eval reaches the model, see `Asking`.
        gen_kwargs: overrides of the tasks' settings of generation.
        style: ``"thinking"`` or ``"plain"`` tells the chat template whether the model may think,
            ``"auto"`` asks the template whether it knows thinking. None leaves tasks as they are,
            and is ``"auto"`` for suites.
        dtype, device, trust_remote_code: as in `Recipe`.
        batch_size: items at a time; by default 16 in this process, else what the engine takes.
        limit: only the first so many items of each task; for trying things out.
        num_fewshot: examples before each item; None leaves it to the task or suite.
        confirm_run_unsafe_code: run code that the model writes, on this machine; code tasks need
            it.
        work_dir: where finished tasks and answers are kept; the same again goes on from there.

    Raises:
        UnknownNameError: there is no such style, task or suite.
        OutputError: nothing can be kept in `work_dir`.
        EasyEPError: a subclass says what is wrong with the model or the tasks.
    """
    found, work = check_place(model, work_dir)
    limit = choices.optional(choices.count)("limit", limit)
    batch_size = choices.optional(choices.count)("batch_size", batch_size)
    num_fewshot = choices.optional(choices.seed)("num_fewshot", num_fewshot)
    for name, each in (("model_args", model_args), ("gen_kwargs", gen_kwargs)):
        if each is not None and not isinstance(each, Mapping):
            raise EvaluationError(f"{name} must be a mapping of names to values, not {each!r}")
    asking = Asking(
        found.path,
        found.name,
        backend=backend,
        args=model_args or {},
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        trust_remote_code=trust_remote_code,
        selection=opened(Selection, selection) if selection is not None else None,
    )
    named = choices.several(choices.text)
    tasks, suites = choices.optional(named)("tasks", tasks), named("suites", suites)
    style = choices.optional(choices.one_of(STYLES))("style", style)  # type: ignore[assignment]
    if style is not None or suites:
        asking = replace(asking, thinking=thinks(style or "auto", asking.template))
    asked = [part for name in suites for part in suite(name, thinking=bool(asking.thinking))]
    names = tasks if tasks is not None or suites else default_tasks(found)
    asked += [Asked(name) for name in names or ()]
    if not asked:
        raise EvaluationError("give at least one task or suite")
    return evaluating.evaluate(
        asking,
        [
            replace(
                each,
                num_fewshot=each.num_fewshot if num_fewshot is None else num_fewshot,
                generation={**each.generation, **(gen_kwargs or {})},
            )
            for each in asked
        ],
        limit=limit,
        unsafe=confirm_run_unsafe_code,
        folder=work / "evaluations" if work is not None else None,
        title=f"Evaluating {found.name}",
        progress=progress,
    )


def check_place(model: PathLike, work_dir: PathLike | None) -> tuple[Model, Path | None]:
    """A model that is to be evaluated, and where finished tasks are kept.

    Raises:
        EasyEPError: as `evaluate`, of these two.
    """
    found = resolve(choices.text("model", model))
    return found, work_directory(work_dir, found.path) if work_dir is not None else None
