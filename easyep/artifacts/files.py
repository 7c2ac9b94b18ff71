"""Artifacts as JSON, with errors that say what and where."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyep.atomic import write_bytes
from easyep.errors import ArtifactError

# Costs of pairs of 512 experts in 60 layers take a sixth of it.
MAX_BYTES = 1_000_000_000


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


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any]) -> None:
    """Write `value` as JSON; numbers keep full double precision.

    Raises:
        OutputError: the file cannot be written.
    """
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def _parse(path: str | os.PathLike[str], what: str) -> Any:
    path = Path(path)
    try:
        with open(path, "rb") as file:  # it may be a pipe, or a device without an end
            content = bytearray()  # room for all that may be in it is not asked for beforehand
            while part := file.read(1 << 20):
                content += part
                if len(content) > MAX_BYTES:
                    raise ArtifactError(f"{what}: {path} has more than {MAX_BYTES} bytes")
        return json.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{what}: {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{what}: {path} cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what}: {path} is not valid JSON: {error}") from None
