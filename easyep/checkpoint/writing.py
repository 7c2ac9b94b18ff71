"""A directory that appears under its name only when it is whole."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from easyep.errors import OutputError

# Left free beside what is written: file systems need some room for themselves.
SPARE_BYTES = 16 * 1024 * 1024


def check_target(target: str | os.PathLike[str], source: Path, needed: int) -> Path:
    """Check that a directory of `needed` bytes can be written to `target`.

    Args:
        target: the directory to be; it may exist if it is empty.
        source: the checkpoint that is read (resolved); the target must lie outside of it.
        needed: bytes that will be written.

    Returns:
        The absolute path of the target.

    Raises:
        OutputError: it exists and is not empty, is or lies in the source, is not writable, or
            has not enough room; the message says which.
    """
    path = Path(target).expanduser()
    place = path.resolve()
    if place == source or place.is_relative_to(source) or source.is_relative_to(place):
        raise OutputError(f"{path} overlaps the source {source}; choose a directory beside it")
    try:
        if path.is_symlink() or (place.exists() and not place.is_dir()):
            raise OutputError(f"{path} exists and is not a directory; choose another name")
        if place.exists() and any(place.iterdir()):
            raise OutputError(f"{path} exists and is not empty; choose another name or remove it")
        if place.is_mount():  # the finished directory could not be renamed to it
            raise OutputError(f"{path} is a mount point; choose a new directory inside of it")
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror or error}") from None
    folder = _existing(place.parent)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path} cannot be written: no permission to write to {folder}")
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise OutputError(
            f"{path} needs {_gigabytes(needed)}, but only {_gigabytes(free)} are free on the file "
            f"system of {folder}; free some room or choose another place"
        )
    return place


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A temporary directory beside `target` that is renamed to it when the block ends well.

    When the block raises, nothing is left: neither the target, nor the temporary directory, nor
    parent directories made for it.

    Raises:
        OutputError: the directory cannot be made, filled or renamed.
    """
    made: list[Path] = []
    temporary: Path | None = None
    try:
        for folder in reversed([target.parent, *target.parent.parents]):
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        # On the same file system, so that the rename at the end is one atomic step.
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # mkdtemp makes what only the owner can enter
        for folder in sorted({temporary, *(p for p in temporary.rglob("*") if p.is_dir())}):
            _sync(folder)
        temporary.rename(target)
        _sync(target.parent)
    except OSError as error:
        _remove(temporary, made)
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from None
    except BaseException:
        _remove(temporary, made)
        raise


def _remove(temporary: Path | None, made: list[Path]) -> None:
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)
    for folder in reversed(made):
        with suppress(OSError):
            folder.rmdir()


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
