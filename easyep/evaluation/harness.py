"""EleutherAI's lm-evaluation-harness, run task by task."""

import contextlib
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from easyep.addresses import without_keys
from easyep.errors import EasyEPError, EvaluationError, MissingDependencyError
from easyep.evaluation.kept_answers import KeptAnswers
from easyep.evaluation.quiet import calm
from easyep.evaluation.suites import Asked
from easyep.evaluation.tasks import local_tasks
from easyep.evaluation.watched import Watched
from easyep.panics import panics_as_errors
from easyep.progress import SILENT, Progress

# The seeds of lm-eval's own entry point.
RANDOM_SEED, SEED = 0, 1234


@dataclass
class Harness:
    """lm-eval and a model for it, which is loaded when the first question is asked.

    Attributes:
        open_model: gives lm-eval's model.
        chats: whether the model can be asked in messages.
        limit: only the first so many items of each task.
        unsafe: run code that the model writes, where a task asks for it.
        answers: a file that answers are kept in while they come, so that an interrupted task goes
            on where it was; None keeps none. Answers that were sampled are never kept there.
        progress: what answers are reported to.
    """

    open_model: Callable[[], Any]
    chats: bool
    limit: int | None = None
    unsafe: bool = False
    answers: Path | None = None
    progress: Progress = SILENT
    _manager: Any = field(default=None, init=False, repr=False)

    @cached_property
    def _watched(self) -> Watched:
        return Watched(self.open_model(), self.progress)

    @cached_property
    def model(self) -> Any:
        """lm-eval's model, with the answers that are kept in front of it."""
        if self.answers is None:
            return self._watched
        from lm_eval.api.model import CachingLM

        answers = KeptAnswers(self.answers)
        with calm():
            model = CachingLM(self._watched, ":memory:")
        model.dbdict.close()
        model.dbdict = answers
        self._watched.set_cache_hook(model.get_cache_hook())
        return model

    def prepare(self, names: Sequence[str]) -> None:
        """Get ready for tasks that easyep does not define itself.

        Raises:
            MissingDependencyError: lm-eval is not installed.
            EvaluationError: it has no such task.
        """
        try:
            with calm():
                from lm_eval.tasks import TaskManager

                self._manager = _manager(TaskManager, bool(names))
        except ImportError as error:
            raise MissingDependencyError(
                f"evaluation needs lm-eval ({error}): pip install 'easyep[eval]'"
            ) from None
        unknown = [name for name in names if name not in self._manager.all_tasks]
        if unknown:
            raise EvaluationError(
                f"unknown task {', '.join(unknown)}: easyep has {', '.join(local_tasks())}; "
                "`lm-eval ls tasks` lists lm-eval's own"
            )

    def measure(self, task: str | Mapping[str, Any], asked: Asked) -> dict[str, Any]:
        """lm-eval's results on one task, as plain JSON, with every item under ``samples``.

        Args:
            task: a name that `prepare` was given, or a definition.
            asked: how it is asked.

        Raises:
            MissingDependencyError: the task needs more packages.
            EvaluationError: lm-eval cannot run it.
            OutputError: answers cannot be kept.
        """
        import lm_eval
        from lm_eval.utils import handle_non_serializable

        name = asked.task
        chat = self.chats if asked.chat is None else asked.chat and self.chats
        model = self.model
        self._watched.title = name
        try:
            with panics_as_errors(), calm(), _seeded(), _allowing_programs(self.unsafe):
                loaded = self._manager.load([task])
                self._set(loaded["tasks"].values(), asked)
                # Not simple_evaluate: it spends seconds per call on describing the machine.
                measured = lm_eval.evaluate(
                    lm=model,
                    task_dict=loaded,
                    limit=self.limit,
                    bootstrap_iters=100,
                    log_samples=True,
                    apply_chat_template=chat,
                    fewshot_as_multiturn=chat,
                    confirm_run_unsafe_code=self.unsafe,
                )
        except ImportError as error:
            raise MissingDependencyError(f"the task {name} needs more packages: {error}") from error
        except EasyEPError:
            raise
        except Exception as error:  # tasks and engines raise what they like
            raise EvaluationError(f"lm-eval cannot run {name}: {_said(error)}") from error
        plain: dict[str, Any] = json.loads(json.dumps(measured, default=handle_non_serializable))
        plain["config"] = {
            # Engines and servers do not tell what they compute in.
            "model_dtype": str(getattr(model.model, "dtype", "")).removeprefix("torch."),
            "apply_chat_template": chat,
            "limit": self.limit,
            "random_seed": RANDOM_SEED,
            **dict.fromkeys(("numpy_seed", "torch_seed", "fewshot_seed"), SEED),
        }
        return plain

    def close(self) -> None:
        """Let go of the file of answers."""
        model = vars(self).get("model")
        if self.answers is not None and model is not None:
            model.dbdict.close()

    @staticmethod
    def _set(tasks: Any, asked: Asked) -> None:
        """As lm-eval's own entry point does: a task that is defined with 0 examples keeps them."""
        for task in tasks:
            defined = task.get_config("num_fewshot")
            if defined is None or (asked.num_fewshot is not None and defined != 0):
                task.set_config(key="num_fewshot", value=asked.num_fewshot or 0)
            task.set_fewshot_seed(seed=SEED)
            if asked.generation and task.get_config("output_type") == "generate_until":
                task.set_config(key="generation_kwargs", value=dict(asked.generation), update=True)


@cache
def _manager(kind: Any, defaults: bool) -> Any:
    """lm-eval's list of tasks: with its defaults it reads thousands of files, so only once."""
    return kind(include_defaults=defaults)


def _said(error: Exception) -> str:
    """What an error says; some say nothing but their type."""
    text = without_keys(str(error).strip())
    if "unsafe" in text or "code_eval" in text.lower():
        return f"{text} (--confirm-run-unsafe-code runs what the model wrote on this machine)"
    if "max tokens to generate" in text:
        return f"{text} (--gen-kwargs max_gen_toks=N asks for fewer)"
    return text or type(error).__name__


@contextlib.contextmanager
def _allowing_programs(allowed: bool) -> Iterator[None]:
    """Where programs may be run, with the leave that the metric `code_eval` asks for by itself."""
    name = "HF_ALLOW_CODE_EVAL"
    before = os.environ.get(name)
    if allowed:
        os.environ[name] = "1"
    try:
        yield
    finally:
        if allowed:
            os.environ.pop(name)
            os.environ.update({name: before} if before is not None else {})


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """With lm-eval's seeds, and afterwards the random states that were before."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(RANDOM_SEED)
        np.random.seed(SEED)
        torch.manual_seed(SEED)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
