"""Accuracy on tasks, through EleutherAI's lm-evaluation-harness."""

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyep import loading
from easyep.errors import EvaluationError, MissingDependencyError
from easyep.evaluation import tasks as task_files
from easyep.progress import SILENT, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class TaskAccuracy:
    """One metric of one task.

    Attributes:
        task: the task's name.
        metric: metric and filter as lm-eval names them, ``"exact_match,answer"``.
        value: the metric, in [0, 1] for accuracies.
        stderr: its standard error as lm-eval computes it; None where it gives none.
        samples: items evaluated.
        version: the task's version.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    samples: int
    version: str


@dataclass(frozen=True)
class Accuracy:
    """What lm-eval measured on one model.

    Attributes:
        results: one entry per task and metric.
        settings: everything that the numbers depend on besides model and tasks.
    """

    results: tuple[TaskAccuracy, ...]
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"results": [asdict(result) for result in self.results], "settings": self.settings}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Accuracy":
        """What `to_json` made."""
        return cls(tuple(TaskAccuracy(**r) for r in value["results"]), value["settings"])


def evaluate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    tasks: Sequence[str],
    *,
    batch_size: int = 16,
    limit: int | None = None,
    num_fewshot: int | None = None,
    title: str = "Evaluating",
    progress: Progress = SILENT,
) -> Accuracy:
    """Evaluate a loaded model.

    The chat template is applied wherever the tokenizer has one.

    Args:
        model: a causal language model, pruned or not, masked or not.
        tokenizer: its tokenizer.
        tasks: names of `eval/tasks/` or of lm-eval.
        batch_size: items at a time.
        limit: only the first so many items of each task; for trying things out.
        num_fewshot: examples before each item; None leaves it to the task.

    Raises:
        MissingDependencyError: lm-eval is not installed.
        EvaluationError: a task is unknown or cannot be run.
    """
    try:
        with _calm():
            import lm_eval
            from lm_eval.models.huggingface import HFLM
            from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise MissingDependencyError(
            f"evaluation needs lm-eval ({error}): pip install 'easyep[eval]'"
        ) from None
    own, others = task_files.find(tasks)
    if not own and not others:
        raise EvaluationError("give at least one task")
    chat = bool(getattr(tokenizer, "chat_template", None))
    results: list[TaskAccuracy] = []
    with _calm():
        # Without its defaults lm-eval is ready at once; with them it reads thousands of files.
        manager = TaskManager(include_defaults=bool(others))
        unknown = [name for name in others if name not in manager.all_tasks]
        if unknown:
            raise EvaluationError(
                f"unknown task {', '.join(unknown)}: easyep has "
                f"{', '.join(task_files.local_tasks())}; `lm-eval ls tasks` lists lm-eval's own"
            )
        harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        with progress.task(title, len(own) + len(others), "tasks") as bar:
            for name, task in [*((t["task"], t) for t in own), *zip(others, others, strict=True)]:
                try:
                    loaded = manager.load([task])
                    _set_fewshot(loaded["tasks"].values(), num_fewshot)
                    # Not simple_evaluate: it spends seconds per call on describing the machine.
                    measured = lm_eval.evaluate(
                        lm=harness,
                        task_dict=loaded,
                        limit=limit,
                        bootstrap_iters=100,
                        log_samples=False,
                        apply_chat_template=chat,
                    )
                except (ValueError, KeyError, OSError, AssertionError) as error:
                    raise EvaluationError(f"lm-eval cannot run {name}: {error}") from error
                results += _results(measured)
                bar.advance()
    return Accuracy(
        results=tuple(results),
        settings={
            "lm_eval": lm_eval.__version__,
            "dtype": str(model.dtype).removeprefix("torch."),
            "apply_chat_template": chat,
            "num_fewshot": num_fewshot,
            "limit": limit,
        },
    )


def evaluate_checkpoint(
    path: Path,
    tasks: Sequence[str],
    *,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: int = 16,
    limit: int | None = None,
    num_fewshot: int | None = None,
    trust_remote_code: bool = False,
    title: str = "Evaluating",
    progress: Progress = SILENT,
) -> Accuracy:
    """Load a checkpoint and evaluate it; the arguments are those of `load_model` and `evaluate`."""
    model = loading.load_model(
        path, dtype=dtype, device=device, trust_remote_code=trust_remote_code
    )
    tokenizer = loading.load_tokenizer(path, trust_remote_code=trust_remote_code)
    return evaluate(
        model,
        tokenizer,
        tasks,
        batch_size=batch_size,
        limit=limit,
        num_fewshot=num_fewshot,
        title=title,
        progress=progress,
    )


def _set_fewshot(tasks: Iterable[Any], num_fewshot: int | None) -> None:
    """As lm-eval's own entry point does: a task that is defined with 0 examples keeps them."""
    for task in tasks:
        defined = task.get_config("num_fewshot")
        if defined is None or (num_fewshot is not None and defined != 0):
            task.set_config(key="num_fewshot", value=num_fewshot or 0)
        task.set_fewshot_seed(seed=1234)


def _results(measured: dict[str, Any]) -> Iterator[TaskAccuracy]:
    for task, metrics in sorted(measured["results"].items()):
        if task not in measured["n-samples"]:
            continue  # a group: the sum of its tasks
        for name, value in metrics.items():
            metric, _, kind = name.partition(",")
            if not kind or metric.endswith("_stderr"):
                continue
            stderr = metrics.get(f"{metric}_stderr,{kind}")
            yield TaskAccuracy(
                task=task,
                metric=name,
                value=float(value),
                stderr=None if stderr in (None, "N/A") else float(stderr),
                samples=int(measured["n-samples"][task]["effective"]),
                version=str(measured["versions"].get(task, "")),
            )


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Without lm-eval's log lines and bars; ours write to a stream of their own."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
