"""Engines that are measured: one small interface, one file for each.

An engine opens a checkpoint and gives a session; a session answers a batch of prompts and tells
when each token came. Everything else (sweeps, repeats, statistics) is the same for all of them.
"""

from typing import Any, Protocol, runtime_checkable

from easyep.errors import UnsupportedModelError
from easyep.evaluation.engines.settings import EngineSettings
from easyep.evaluation.throughput.timing import RequestTiming
from easyep.registry import Places

__all__ = [
    "BACKENDS",
    "SUMMARIES",
    "Engine",
    "EngineSettings",
    "PacedSession",
    "Session",
    "engine",
]


class Session(Protocol):
    """A checkpoint that an engine has loaded."""

    def generate(self, prompts: list[list[int]], output_len: int) -> list[RequestTiming]:
        """Answer all `prompts` at once, each with exactly `output_len` tokens.

        Raises:
            MemoryExhaustedError: they do not fit beside each other.
            EvaluationError: the engine failed, or answered with another number of tokens.
        """

    def peak_memory(self) -> int | None:
        """Bytes that weights, cache and activations took at most in the last `generate`.

        None where the engine does not tell, or reserves all memory that it can beforehand.
        """

    def capacity(self, tokens: int) -> int | None:
        """Requests of `tokens` tokens that the engine says to have cache for; None = unsaid."""

    def describe(self) -> dict[str, Any]:
        """The versions and settings that the numbers depend on, ready for JSON."""

    def close(self) -> None:
        """Give memory, processes and connections back."""


@runtime_checkable
class PacedSession(Protocol):
    """A session whose requests can also come one by one, as a server's do."""

    def serve(
        self, prompts: list[list[int]], output_len: int, times: list[float], at_once: int
    ) -> list[RequestTiming]:
        """Answer each prompt as `Session.generate` does, sent when its time has come.

        Args:
            prompts: token ids.
            output_len: tokens of each answer.
            times: seconds after the first request, ascending.
            at_once: the most requests under way at a time; others wait, and `sent` is when their
                wait was over.
        """


class Engine(Protocol):
    """Opens checkpoints.

    An attribute `takes` names the attributes of `EngineSettings` that the engine takes; others are
    refused for it. Without it nothing is.
    """

    def open(self, model: str, settings: EngineSettings) -> Session:
        """Load the checkpoint in the directory `model`.

        Raises:
            MissingDependencyError: the engine's package is not installed.
            EasyEPError: it cannot load the checkpoint.
        """


# Imported when asked for, since some take half a minute.
BACKENDS = Places("backend")
SUMMARIES: dict[str, str] = {}
for _name, _place, _summary in (
    ("transformers", "fixed_batch:FixedBatch", "transformers, a fixed batch, no scheduler"),
    (
        "transformers-continuous",
        "continuous_batch:ContinuousBatch",
        "transformers' continuous batching with a paged cache",
    ),
    ("vllm", "vllm_offline:VllmOffline", "vLLM in this process"),
    ("sglang", "sglang_offline:SglangOffline", "SGLang in this process"),
    ("openai", "server:Server", "any running server with OpenAI's completions API"),
):
    BACKENDS.register(_name, f"easyep.evaluation.engines.{_place}")
    SUMMARIES[_name] = _summary


def engine(name: str) -> Engine:
    """The engine called `name`.

    Raises:
        UnknownNameError: there is none; the message lists them.
        PluginError: its module cannot be imported.
        UnsupportedModelError: what the name leads to is no engine.
    """
    kind = BACKENDS.load(name)
    if not (isinstance(kind, type) and callable(getattr(kind, "open", None))):
        raise UnsupportedModelError(f"{BACKENDS[name]} is no engine: no class with a method open")
    made: Engine = kind()
    return made
