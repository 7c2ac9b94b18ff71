"""lm-eval's model, whose answers can be counted while they come."""

from typing import Any

from easyep.progress import Progress, Task

_ASKED = ("generate_until", "loglikelihood", "loglikelihood_rolling")


class Watched:
    """Passes everything on to lm-eval's model, and reports each answer.

    lm-eval's models hand every finished answer to a hook, meant for keeping them; that is where
    they are counted.

    Args:
        model: an lm-eval model.
        progress: what is reported to.
    """

    def __init__(self, model: Any, progress: Progress) -> None:
        self._model = model
        self._progress = progress
        self.title = "Answering"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if name not in _ASKED:
            return found

        def ask(requests: Any, *arguments: Any, **named: Any) -> Any:
            with self._progress.task(self.title, len(requests), "answers") as task:
                kept = self._model.cache_hook
                self._model.set_cache_hook(_Counting(kept, task))
                try:
                    return found(requests, *arguments, **named)
                finally:
                    self._model.set_cache_hook(kept)

        return ask


class _Counting:
    """lm-eval's hook for finished answers, with a count."""

    def __init__(self, hook: Any, task: Task) -> None:
        self._hook = hook
        self._task = task

    def add_partial(self, kind: str, request: Any, answer: Any) -> None:
        self._hook.add_partial(kind, request, answer)
        self._task.advance()
