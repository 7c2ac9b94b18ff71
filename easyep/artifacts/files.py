"""How artifacts reach the disk: JSON with clear errors, and names that appear only when whole."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from easyep.errors import ArtifactError, OutputError


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


def _parse(path: str | os.PathLike[str], what: str) -> Any:
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{what}: {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{what}: {path} cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what}: {path} is not valid JSON: {error}") from None


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any]) -> None:
    """Write `value` as JSON; numbers keep full double precision."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` under a temporary name, flush it to disk, then rename it to `path`.

    Raises:
        OutputError: the folder cannot be created or written.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only the owner can read
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write into that gets its name when the context ends without an error.

    Raises:
        OutputError: `folder` holds something already, or cannot be created.
    """
    folder = Path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        partial.chmod(0o777 & ~_umask())
    except OSError as error:
        raise OutputError(f"cannot create {folder}: {error.strerror or error}") from None
    try:
        yield partial
        partial.rename(folder)  # succeeds where nothing, or an empty folder, has the name
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
