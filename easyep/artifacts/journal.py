"""Parts of a run's records, kept as they come: a run that was killed goes on where it was.

A journal is a folder with a file for every batch of demonstrations, or for every layer, written
under its name only when it is whole. Its name holds a key of what the run is about, so that only
the same run, started again, finds it; a lock tells whether another process works on it now.
"""

import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from safetensors import safe_open

from easyep.atomic import make_parents, remove_empty, write_bytes, writing
from easyep.errors import EasyEPError, OutputError

try:
    import fcntl
except ImportError:  # Windows: two runs on one journal are not noticed there
    fcntl = None  # type: ignore[assignment]

Arrays = Mapping[str, npt.NDArray[Any]]
CHECKSUM = "crc32"
_DEMOS = "demos"
_LAYER = "layer-"
_LOCK = "lock"
_TYPES = ("F32", "F64", "I16", "I32", "I64", "BOOL")


def checksum(arrays: Iterable[tuple[str, npt.NDArray[Any]]]) -> str:
    """CRC-32 of what arrays are called and hold: it tells a damaged file, not a forged one."""
    found = 0
    for name, array in arrays:
        found = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, found)
    return f"{found:08x}"


class Journal:
    """The parts that are on disk.

    Args:
        folder: where they are; `journal` makes and locks it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, Path] = {}
        self._layers: dict[int, Path] = {}
        self.done: set[int] = set()
        for path in filter(Path.is_file, folder.glob("*.safetensors")):
            try:
                self._take(path)
            except (OSError, TypeError, ValueError, safetensors.SafetensorError):
                path.unlink()  # damaged: what it was of is run again

    def add(self, demos: Sequence[int], parts: Mapping[int, Arrays]) -> None:
        """Keep what the layers recorded of some demonstrations.

        A part that begins with the same demonstration is replaced.

        Raises:
            OutputError: it cannot be written.
        """
        arrays: dict[str, npt.NDArray[Any]] = {
            f"{layer}/{name}": np.ascontiguousarray(array)
            for layer, part in parts.items()
            for name, array in part.items()
        }
        arrays[_DEMOS] = np.array(demos, dtype=np.int64)
        path = self._folder / f"{min(demos):08d}.safetensors"
        _write(path, arrays)
        self._note(path, demos)

    def add_layer(self, layer: int, arrays: Arrays) -> None:
        """Keep what one layer recorded of all demonstrations, in place of what there was.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._folder / f"{_LAYER}{layer:05d}.safetensors"
        named = {f"{layer}/{name}": np.ascontiguousarray(each) for name, each in arrays.items()}
        _write(path, named)
        self._layers[layer] = path

    def file(self, name: str) -> Path:
        """Where a run that goes layer by layer may keep what it needs to go on."""
        return self._folder / name

    def layers(self) -> list[int]:
        """The layers that some part is of."""
        found: set[int] = set(self._layers)
        for path in self._files.values():
            with safe_open(path, "numpy") as file:
                found |= {int(name.split("/")[0]) for name in file.keys() if "/" in name}  # noqa: SIM118
        return sorted(found)

    def parts(self, layer: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """The parts of a layer, in the order of the demonstrations."""
        whole = [self._layers[layer]] if layer in self._layers else []
        for path in whole or [path for _, path in sorted(self._files.items())]:
            with safe_open(path, "numpy") as file:
                prefix = f"{layer}/"
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                if names:
                    yield {name.removeprefix(prefix): file.get_tensor(name) for name in names}

    def is_empty(self) -> bool:
        """Whether a run would have nothing to go on from."""
        return not self._files and not self._layers

    def remove(self) -> None:
        """The run is done, and what it found is saved elsewhere."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _take(self, path: Path) -> None:
        """Count a file among the parts; ValueError where it is none."""
        with safe_open(path, "numpy") as file:
            for name in sorted(file.keys()):
                layer, _, array = name.partition("/")
                if name != _DEMOS and not (layer.isdecimal() and array):
                    raise ValueError(f"{name!r} is no array of a layer")
                if file.get_slice(name).get_dtype() not in _TYPES:
                    raise ValueError(f"{name!r} has a type that no record has")
            if (file.metadata() or {}).get(CHECKSUM) != checksum(_each(file)):
                raise ValueError("it is not what was written")
            if path.name.startswith(_LAYER):
                number = int(path.stem.removeprefix(_LAYER))
                if {int(name.split("/")[0]) for name in file.keys()} != {number}:  # noqa: SIM118
                    raise ValueError("it is not of the layer that its name says")
                self._layers[number] = path
                return
            demos = file.get_tensor(_DEMOS)
        if demos.ndim != 1 or not demos.size or demos.dtype.kind != "i":
            raise ValueError("it does not say which demonstrations it is of")
        self._note(path, demos.tolist())

    def _note(self, path: Path, demos: Sequence[int]) -> None:
        self._files[min(demos)] = path
        self.done |= set(demos)


def _write(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    about = {CHECKSUM: checksum(sorted(arrays.items()))}
    write_bytes(path, safetensors.numpy.save(arrays, about))


def _each(file: Any) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The arrays of an open file by their names, one in memory at a time."""
    return ((name, file.get_tensor(name)) for name in sorted(file.keys()))


@contextmanager
def journal(beside: Path, key: str) -> Iterator[Journal]:
    """The journal of the run `key` whose result will be called `beside`, locked.

    When the block raises and nothing has been kept, nothing is left, parent folders made for it
    included.

    Raises:
        OutputError: it cannot be made, or another process works on it.
    """
    folder = beside.parent / f".{beside.name}.{key}.part"
    if folder.is_symlink():  # what it leads to is somebody's own
        raise OutputError(f"{folder} is a link, not a folder of easyep; move it away")
    made: list[Path] = []
    with writing(folder):
        make_parents(folder, made)
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                path.unlink()  # a pipe would be waited for
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        if _is_taken(lock):
            raise OutputError(
                f"another run writes the observations {beside} now; wait for it, or choose "
                "another output or work directory"
            )
        kept = Journal(folder)
        try:
            yield kept
        except BaseException as error:
            if [path.name for path in folder.glob("*")] == [_LOCK]:
                kept.remove()
                remove_empty(made)
            if isinstance(error, EasyEPError | KeyboardInterrupt) and not kept.is_empty():
                _tell(error, folder)
            raise
    finally:
        with suppress(OSError):
            os.close(lock)


def _is_taken(lock: int) -> bool:
    """Whether another run holds the lock, or ends and has just removed it with its folder."""
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False  # a file system without locks: there two runs at once cannot be told
        return not os.fstat(lock).st_nlink
    return False


def _tell(error: EasyEPError | KeyboardInterrupt, folder: Path) -> None:
    """Raise `error` anew with what is kept; once, where several domains have a journal."""
    hint = "what was recorded so far is kept in"
    if hint not in str(error):
        words = f"{hint} {folder}: the same command goes on from there"
        raise type(error)("; ".join([*map(str, error.args), words])) from error
