"""How an engine is to run a model: the same for both of two that are compared."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from easyep.errors import EvaluationError


@dataclass(frozen=True)
class EngineSettings:
    """What somebody asks of an engine; each takes some of it (`check_taken`).

    Attributes:
        dtype: a name of `recipe.DTYPES`; ``"auto"`` takes the checkpoint's own.
        device: ``"auto"``, ``"cpu"``, ``"cuda:0"``, ...
        tensor_parallel: accelerators that share each matrix.
        memory: bytes that the engine may use, for those that reserve memory beforehand; None
            leaves it to them.
        max_model_len: tokens of the longest request.
        max_batch_size: the most requests at a time.
        trust_remote_code: run Python code that lies in the checkpoint.
        base_url: address of a server.
        served_model_name: what the server calls the model; None = what it says first.
        api_key: for the server.
        extra_body: further entries of each request to a server.
        extra_args: further arguments for an engine's own constructor.
    """

    dtype: str = "auto"
    device: str = "auto"
    tensor_parallel: int = 1
    memory: int | None = None
    max_model_len: int = 2048
    max_batch_size: int = 256
    trust_remote_code: bool = False
    base_url: str | None = None
    served_model_name: str | None = None
    api_key: str = field(default="", repr=False)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    extra_args: Mapping[str, Any] = field(default_factory=dict)


# What a benchmark knows by itself, and a key that lies in the environment for whoever needs it.
_NOT_ASKED = {"max_model_len", "max_batch_size", "api_key"}
_CALLED = {"memory": "a memory budget"}


def check_taken(settings: EngineSettings, backend: str, takes: Collection[str] | None) -> None:
    """Check that nothing is asked of an engine that it would pass over without a word.

    Args:
        settings: what is asked.
        backend: the engine's name.
        takes: the attributes of `EngineSettings` that it takes; None = nobody says.

    Raises:
        EvaluationError: something is; the message says what the engine takes.
    """
    if takes is None:
        return
    usual = EngineSettings()
    for name in (each.name for each in fields(EngineSettings)):
        if name in takes or name in _NOT_ASKED:
            continue
        if getattr(settings, name) != getattr(usual, name):
            told = ", ".join(sorted(takes)) or "no setting"
            raise EvaluationError(
                f"{_CALLED.get(name, name)} has no effect on the backend {backend}, which takes "
                f"{told}; leave it out or choose another backend (`easyep list backends`)"
            )


# Entries that engines and servers take keys under.
_SECRET = {"admin_api_key", "api_key", "authorization", "hf_token", "ssl_keyfile_password", "token"}


def open_entries(entries: Mapping[str, Any]) -> dict[str, Any]:
    """`entries` without those that may hold a key: results are passed on, keys are not."""
    return {name: value for name, value in entries.items() if name.lower() not in _SECRET}
