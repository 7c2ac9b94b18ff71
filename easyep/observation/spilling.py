"""Passes that wait need not stay in memory: what they hold goes to a file until they go on.

A pass that waits in the middle of a layer holds tensors in the frames of the model's own code: the
residual stream, the block's input, whatever the family keeps. Which those are is not known, but
every tensor that a pass makes is seen when it is made, and its storage can be emptied and filled
again behind the back of the code that holds it.
"""

import ctypes
import os
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from easyep.atomic import writing
from easyep.checkpoint.disk import reserve

SMALLEST = 1 << 16  # bytes of a storage that is worth the trouble


class Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, the storages in main memory that operations make are remembered, weakly."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._refs: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        given: set[int] | None = None
        for tensor in _tensors(made):
            storage = tensor.untyped_storage()
            if storage.nbytes() < SMALLEST or not storage.resizable() or not tensor.is_cpu:
                continue
            if given is None:
                given = {each.untyped_storage()._cdata for each in _tensors((args, kwargs))}
            if storage._cdata not in given:  # weights and views of them are others' memory
                ref = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._refs[storage._cdata] = ref
        return made

    def held(self) -> list[torch.UntypedStorage]:
        """The storages that somebody still holds."""
        found = {}
        for key, ref in list(self._refs.items()):
            # None if nobody holds it any more.
            storage = torch.UntypedStorage._new_with_weak_ptr(ref.cdata)
            if storage is None:
                del self._refs[key]
            elif storage.resizable():  # not so what NumPy looks at
                found[storage._cdata] = storage
        return list(found.values())


class Spill:
    """Takes from passes that wait what does not fit into a budget, and gives it back.

    Args:
        budget: bytes that all passes that wait may hold in main memory.
        folder: where the file goes that the rest is written to; it has no name and is gone with
            the process. None = the system's folder for such files.

    Raises:
        OutputError: that folder cannot be written to, also when a pass is to rest.
    """

    def __init__(self, budget: int, folder: Path | None = None) -> None:
        self.budget = budget
        self.folder = folder or Path(tempfile.gettempdir())
        self.bytes_written = 0
        self.held = 0
        with writing(self.folder):
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
        self._end = 0
        self._free: dict[int, list[int]] = {}

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def fits(self, made: Made) -> bool:
        """Whether there is room in memory for all that a pass holds."""
        return self.held + sum(each.nbytes() for each in made.held()) <= self.budget

    def rest(self, made: Made, stay: Collection[Tensor] = ()) -> "Resting":
        """What a pass holds, in memory if there is room for it, until `Resting.wake`.

        Args:
            made: what the pass has made.
            stay: tensors that are needed while the pass waits.
        """
        kept = {tensor.untyped_storage()._cdata for tensor in stay}
        storages = [each for each in made.held() if each._cdata not in kept]
        size = sum(storage.nbytes() for storage in storages)
        if self.held + size <= self.budget:
            self.held += size
            return Resting(self, size, [])
        return Resting(self, 0, [(each, each.nbytes(), self._write(each)) for each in storages])

    def outside(self, like: Tensor) -> Tensor:
        """A tensor of zeros of that form whose memory is a file's: the kernel may take it away."""
        size = like.numel() * like.element_size()
        with writing(self.folder), tempfile.NamedTemporaryFile(dir=self.folder) as file:
            reserve(file.fileno(), size)  # a full disk would kill who writes to the memory later
            os.truncate(file.fileno(), size)
            storage = torch.UntypedStorage.from_file(file.name, shared=True, nbytes=size)
        flat = torch.empty(0, dtype=like.dtype).set_(storage)  # type: ignore[arg-type]
        return flat.view(like.shape)

    def _write(self, storage: torch.UntypedStorage) -> int:
        size = storage.nbytes()
        places = self._free.get(size)
        if places:
            at = places.pop()
        else:
            at, self._end = self._end, self._end + size
        view, done = _bytes(storage), 0
        with writing(self.folder):
            while done < size:
                done += os.pwrite(self._file.fileno(), view[done:], at + done)
        self.bytes_written += size
        storage.resize_(0)
        return at

    def _read(self, storage: torch.UntypedStorage, size: int, at: int) -> None:
        storage.resize_(size)
        view, done = _bytes(storage), 0
        while done < size:
            done += os.preadv(self._file.fileno(), [view[done:]], at + done)
        self._free.setdefault(size, []).append(at)


class Resting:
    """What one pass holds while it waits."""

    def __init__(
        self, spill: Spill, size: int, written: Iterable[tuple[torch.UntypedStorage, int, int]]
    ) -> None:
        self._spill = spill
        self._size = size
        self._written = list(written)

    def wake(self) -> None:
        """Back to memory."""
        self._spill.held -= self._size
        for storage, size, at in self._written:
            self._spill._read(storage, size, at)
        self._size, self._written = 0, []


def _bytes(storage: torch.UntypedStorage) -> memoryview:
    # Not through NumPy, which would make the storage keep its size.
    whole = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    return memoryview(whole).cast("B")


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in pytree.tree_leaves(values) if isinstance(each, Tensor)]
