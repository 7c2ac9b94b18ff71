"""Files and folders that appear under their names only when they are whole."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from easyep.errors import OutputError


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` under a temporary name, flush it to disk, then rename it to `path`.

    Raises:
        OutputError: the folder cannot be created or written, or `path` is a device or a pipe.
    """
    path = expanded(path)
    _check_kind(path)
    temporary: Path | None = None
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            temporary = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only the owner can read
            temporary.replace(path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_file(path: str | os.PathLike[str]) -> None:
    """Check that a file can be written to `path`; long work begins after this.

    Raises:
        OutputError: it is a directory, a device or a pipe, or its folder cannot be written.
    """
    given, path = path, expanded(path)
    with writing(path):
        if path.is_dir() or str(given).endswith(os.sep):
            raise OutputError(f"{given} is a directory; name a file")
        _check_kind(path)
        _check_folder(path)


def check_absent(path: str | os.PathLike[str]) -> Path:
    """Check that nothing has the name `path`, or an empty folder; long work begins after this.

    Returns:
        The absolute path.

    Raises:
        OutputError: something is there, or nothing can be written beside it.
    """
    path = expanded(path)
    place = Path(os.path.realpath(path))
    try:
        if path.is_symlink():  # the finished folder would replace it
            raise OutputError(f"{path} is a link; name the folder itself, or choose another name")
        if place.exists() and not place.is_dir():
            raise OutputError(f"{path} exists and is not a directory; choose another name")
        if place.exists() and any(place.iterdir()):
            raise OutputError(f"{path} exists and is not empty; choose another name or remove it")
        if place.is_mount():  # the finished folder could not be renamed to it
            raise OutputError(f"{path} is a mount point; choose a new folder inside of it")
        _check_folder(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror or error}") from None
    return place


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that is renamed to it when the block ends well.

    When the block raises, nothing is left: neither the target, nor the temporary folder, nor
    parent folders made for it. Only a process that is killed leaves its temporary folder
    (`.NAME.xxxxxxxx`). Nobody but the user can tell whether a process, perhaps on another
    machine, still writes to such a folder, so none is ever removed by another run.

    Raises:
        OutputError: the folder cannot be made or renamed. An OSError of the block's own passes
            as it is; where the block writes, `writing` gives it its name.
    """
    made: list[Path] = []
    temporary: Path | None = None
    try:
        with writing(target):
            make_parents(target, made)
            # On the same file system, so that the rename at the end is one atomic step.
            temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        yield temporary
        with writing(target):
            appear(temporary, target)
    except BaseException:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        remove_empty(made)
        raise


def appear(folder: Path, target: Path) -> None:
    """Rename the finished `folder`, whose files are on disk, to `target`, on disk too."""
    folder.chmod(0o777 & ~_umask())  # it was made so that only the owner can enter
    for each in sorted({folder, *(p for p in folder.rglob("*") if p.is_dir())}):
        _sync(each)
    folder.rename(target)
    with suppress(OSError):  # it is there and whole, whatever becomes of this
        _sync(target.parent)


def make_parents(target: Path, made: list[Path]) -> None:
    """Make the folders above `target` that are missing, and append them to `made`."""
    for folder in reversed(target.parents):
        if not folder.exists():
            with suppress(FileExistsError):  # another run has been faster
                folder.mkdir()
                made.append(folder)


def remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders`, each in the one before it, that are empty."""
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Tells an OSError of the block as an OutputError about `target`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from None


def expanded(path: str | os.PathLike[str]) -> Path:
    """`path` with ``~`` for a home folder; a name such as ``~draft``, of no user, stays."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (pathlib raises for such names)


def existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _check_kind(path: Path) -> None:
    """Raises OutputError where a finished file would take the place of a device or a pipe."""
    with writing(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OutputError(f"{path} is no regular file, and would be replaced; name another")


def _check_folder(path: Path) -> None:
    """Raises OutputError where nothing can be made beside `path`."""
    # Not `resolve`: before Python 3.13 it raises RuntimeError for links that go round in circles.
    folder = existing(Path(os.path.realpath(path)).parent)
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: {folder} is not a directory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path} cannot be written: no permission to write to {folder}")


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
