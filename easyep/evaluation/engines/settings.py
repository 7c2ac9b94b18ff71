"""How an engine is to run a model: the same for both of two that are compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EngineSettings:
    """What every engine understands, or says that it does not.

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


# Entries that engines and servers take keys under.
_SECRET = {"admin_api_key", "api_key", "authorization", "hf_token", "ssl_keyfile_password", "token"}


def open_entries(entries: Mapping[str, Any]) -> dict[str, Any]:
    """`entries` without those that may hold a key: results are passed on, keys are not."""
    return {name: value for name, value in entries.items() if name.lower() not in _SECRET}
