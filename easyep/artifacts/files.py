"""Artifacts as JSON, with errors that say what and where."""

import json
import os
import re
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from easyep import strict_json
from easyep.atomic import write_bytes
from easyep.choices import text
from easyep.errors import ArtifactError
from easyep.given_files import read_whole

# Costs of pairs of 512 experts in 60 layers take a sixth of it.
MAX_BYTES = 1_000_000_000

T = TypeVar("T")


class _Saved(Protocol):
    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "_Saved": ...


A = TypeVar("A", bound=_Saved)


def opened(kind: type[A], given: Any) -> A:
    """An artifact that was given as it is, or as the path that it was saved under.

    Raises:
        ArtifactError: it is neither, or as `kind.load`.
    """
    if isinstance(given, kind):
        return given
    if isinstance(given, (str, os.PathLike)):
        return kind.load(text(kind.__name__, given))  # type: ignore[return-value]
    raise ArtifactError(
        f"expected {kind.__name__} or where it was saved, not {type(given).__name__} "
        f"{reprlib.repr(given)[:100]}"
    )


def read_json(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """The JSON object in `path`; `what` names the artifact in messages.

    Raises:
        ArtifactError: the file is missing, unreadable, not JSON, or not an object.
    """
    value = _parse(path, what)
    if not isinstance(value, dict):
        raise ArtifactError(f"{what}: {path} holds {type(value).__name__}, not a JSON object")
    return value


def read_json_list(path: str | os.PathLike[str], what: str) -> list[Any]:
    """The JSON list in `path`; `what` names the artifact in messages.

    Raises:
        ArtifactError: the file is missing, unreadable, not JSON, or not a list.
    """
    value = _parse(path, what)
    if not isinstance(value, list):
        raise ArtifactError(f"{what}: {path} holds {type(value).__name__}, not a JSON list")
    return value


def read_artifact(
    path: str | os.PathLike[str], what: str, made: Callable[[dict[str, Any]], T]
) -> T:
    """What `made` makes of the JSON object in `path`; `what` names the artifact in messages.

    Raises:
        ArtifactError: as in `read_json`, or by `made`; the message says where.
    """
    value = read_json(path, what)
    try:
        return made(value)
    except ArtifactError as error:
        other = _looks_like(value)
        hint = f"; the file holds {other}" if other and what not in other else ""
        raise ArtifactError(f"{what}: {path}: {error}{hint}") from None


def _looks_like(value: Mapping[str, Any]) -> str:
    """Which artifact has the keys of `value`; empty where none has."""
    kinds = {
        "the manifest of a checkpoint": {"source", "selection", "checksums"},
        "the index of observations": {"demos", "runner", "checksums"},
        "a selection": {"keep", "num_experts", "layers"},
        "scores": {"criterion", "router", "layers"},
    }
    return next((kind for kind, keys in kinds.items() if keys <= value.keys()), "")


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any]) -> None:
    """Write `value` as JSON; numbers keep full double precision.

    Raises:
        OutputError: the file cannot be written.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode(errors="backslashreplace"))  # JSON escapes half a character so


def check_schema(value: Mapping[str, Any], schema: int) -> None:
    """Raises ArtifactError unless `value` says that it has this schema."""
    if value.get("schema") != schema:
        raise ArtifactError(
            f"schema is {reprlib.repr(value.get('schema'))}; this version reads {schema}"
        )


def layer_entries(value: Mapping[str, Any]) -> dict[int, list[Any]]:
    """`value["layers"]` with integer keys, in ascending order.

    Raises:
        ArtifactError: it is not an object from layer numbers to lists.
    """
    layers = value.get("layers")
    if not isinstance(layers, Mapping) or not layers:
        raise ArtifactError("the entry 'layers' must be an object from layer numbers to lists")
    entries = {}
    for layer, numbers in layers.items():
        if not (isinstance(layer, str) and re.fullmatch("0|[1-9][0-9]{0,5}", layer)):
            raise ArtifactError(f"layer {layer[:20]!r} is not a number")
        if not isinstance(numbers, list):
            raise ArtifactError(f"layer {layer}: expected a list, found {type(numbers).__name__}")
        entries[int(layer)] = numbers
    return dict(sorted(entries.items()))


def _parse(path: str | os.PathLike[str], what: str) -> Any:
    path = Path(path)
    try:
        return strict_json.parse(read_whole(path, MAX_BYTES).decode("utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{what}: {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{what}: {path} cannot be read: {error}") from None
    except ValueError as error:
        raise ArtifactError(f"{what}: {path} is not valid JSON: {error}") from None
