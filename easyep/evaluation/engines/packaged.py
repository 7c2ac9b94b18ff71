"""What engines of other packages share: how they are imported, how their answers are timed."""

import time
from importlib import import_module
from typing import Any

from easyep.errors import EvaluationError, MissingDependencyError
from easyep.evaluation.throughput.timing import RequestTiming

# What of `EngineSettings` they take; each finds its device itself.
TAKES = frozenset({"dtype", "tensor_parallel", "memory", "trust_remote_code", "extra_args"})


def imported(package: str, name: str) -> Any:
    """The module `package` of the engine that people call `name`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"the backend {package} needs {name} ({error}): pip install {package}, or measure a "
            "running server with --backend openai --base-url URL"
        ) from None


class Answer:
    """One request that is sent now, of an engine that tells how many tokens it has made so far."""

    def __init__(self) -> None:
        self._sent = time.perf_counter()
        self._arrivals: list[tuple[float, int]] = []
        self._made = 0

    def has(self, made: int) -> None:
        """The engine has `made` tokens now."""
        if made > self._made:
            self._arrivals.append((time.perf_counter(), made - self._made))
            self._made = made

    def timing(self, engine: str, output_len: int) -> RequestTiming:
        """When its tokens came.

        Raises:
            EvaluationError: there are more or fewer than were asked for.
        """
        if self._made != output_len:
            raise EvaluationError(f"{engine} made {self._made} tokens, not {output_len}")
        return RequestTiming(self._sent, tuple(self._arrivals))
