"""Where a streaming run was: what each demonstration's pass had after the last finished layer."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils import _pytree as pytree

from easyep.artifacts.journal import CHECKSUM, checksum
from easyep.atomic import write_bytes, writing
from easyep.distributed import Group
from easyep.errors import OutputError, first_line
from easyep.given_files import read_whole

_MOST_BYTES = 1_000_000


class Remembered(NamedTuple):
    """The last finished layer.

    Attributes:
        layer: its index.
        output: a demonstration's number -> what the layer gave, read when it is asked for.
    """

    layer: int
    output: Callable[[int], Any]


def everywhere(before: Remembered | None, group: Group, device: torch.device) -> Remembered | None:
    """What rank 0 remembers, in every process of the group.

    All processes must ask for the same outputs in the same order.

    Args:
        before: what this process remembers; only rank 0's matters.
        group: the processes.
        device: where outputs go.

    Raises:
        PeerError: another process has failed, is gone or hangs; also when an output is asked for.
    """
    if group.here.size == 1:
        return before
    layer = group.agree(before.layer if before is not None else None)
    if layer is None:
        return None

    def moved(output: Any, where: torch.device) -> Any:
        return pytree.tree_map_only(Tensor, lambda each: each.to(where), output)

    def output(number: int) -> Any:
        own = before.output(number) if before is not None else None
        return moved(group.agree(moved(own, torch.device("cpu"))), device)

    return Remembered(layer, output)


class StreamState:
    """A folder with the outputs of the last finished layer, a file for each demonstration.

    Args:
        folder: the folder.
        key: of the run; what another run remembered there is passed over.
    """

    def __init__(self, folder: Path, key: str = "") -> None:
        self._folder = folder
        self._key = key
        self._fits = True

    def add(self, layer: int, number: int, output: Any) -> None:
        """Write what `layer` gave for one demonstration, for `finish` to count it.

        Outputs that hold anything but tensors and None, in lists, tuples and dictionaries, cannot
        be remembered; then a run that is killed goes on behind an earlier layer.

        Raises:
            OutputError: the file cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        try:
            form = _form(output, tensors)
        except TypeError:
            self._fits = False
        if not self._fits:
            return
        about = {"form": json.dumps(form), CHECKSUM: _checksum(tensors.items())}
        path = self._file(layer, number)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                save_file(tensors, path, metadata=about)
            except safetensors.SafetensorError as error:  # a full disk, told in words of its own
                raise OutputError(f"cannot write {path}: {first_line(error)}") from None
            with open(path, "rb") as file:
                os.fsync(file.fileno())

    def finish(self, layer: int, demos: int) -> None:
        """`layer` is finished by all `demos` demonstrations: remember it in place of the last.

        Raises:
            OutputError: it cannot be written.
        """
        fits, self._fits = self._fits, True
        if fits:
            about = {"layer": layer, "demos": demos, "key": self._key}
            write_bytes(self._folder / "finished.json", json.dumps(about).encode())
        for folder in self._folder.glob("layer-*"):
            if fits == (folder != self._file(layer, 0).parent):
                shutil.rmtree(folder, ignore_errors=True)

    def load(self, device: torch.device) -> Remembered | None:
        """The last finished layer; None if nothing, or not all of it, is remembered."""
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            about = json.loads(read_whole(self._folder / "finished.json", _MOST_BYTES))
            layer, demos = about["layer"], about["demos"]
            ours = about["key"] == self._key and type(layer) is int and type(demos) is int
            if ours and all(self._whole(self._file(layer, number)) for number in range(demos)):
                return Remembered(layer, lambda number: self._read(layer, number, device))
        return None

    def _read(self, layer: int, number: int, device: torch.device) -> Any:
        with safe_open(self._file(layer, number), "pt", device=str(device)) as file:
            form = json.loads(file.metadata()["form"])
            return _formed(form, lambda name: file.get_tensor(name).clone())

    def _whole(self, path: Path) -> bool:
        """Whether a file is what was written, and can be put together again."""
        if not path.is_file():  # a pipe in its place would be waited for
            return False
        try:
            with safe_open(path, "pt") as file:
                about, names = file.metadata() or {}, sorted(file.keys())
                _formed(json.loads(about["form"]), dict.fromkeys(names).__getitem__)
                found = _checksum((name, file.get_tensor(name)) for name in names)
                return bool(about[CHECKSUM] == found)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return False
        except safetensors.SafetensorError:
            return False

    def _file(self, layer: int, number: int) -> Path:
        return self._folder / f"layer-{layer:05d}" / f"{number:06d}.safetensors"


def _form(output: Any, tensors: dict[str, Tensor]) -> Any:
    """How an output is put together, as JSON: its tensors, moved to `tensors`, by their names.

    Raises:
        TypeError: something in it is no tensor, list, tuple, dictionary with texts as keys, or
            None.
    """
    if output is None:
        return None
    if isinstance(output, Tensor):
        name = f"{len(tensors):06d}"
        # A copy: the same numbers may be there twice, which safetensors refuses.
        tensors[name] = output.detach().clone(memory_format=torch.contiguous_format).cpu()
        return name
    if type(output) in (list, tuple):
        return [type(output).__name__, [_form(each, tensors) for each in output]]
    if type(output) is dict and all(type(key) is str for key in output):
        return ["dict", {key: _form(each, tensors) for key, each in output.items()}]
    raise TypeError(f"a {type(output).__name__} cannot be remembered")


def _formed(form: Any, tensor: Callable[[str], Any]) -> Any:
    """An output put together again; TypeError, ValueError or LookupError where that is no form."""
    if form is None:
        return None
    if isinstance(form, str):
        return tensor(form)
    kind, inside = form
    if kind == "dict":
        return {key: _formed(each, tensor) for key, each in inside.items()}
    made = [_formed(each, tensor) for each in inside]
    return {"list": list, "tuple": tuple}[kind](made)


def _checksum(tensors: Iterable[tuple[str, Tensor]]) -> str:
    def told() -> Iterable[tuple[str, Any]]:
        for name, tensor in tensors:
            data = tensor.reshape(-1).view(torch.uint8).numpy()
            yield f"{name} {tensor.dtype} {tuple(tensor.shape)}", data

    return checksum(told())
