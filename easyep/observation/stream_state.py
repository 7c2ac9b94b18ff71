"""Where a streaming run was: what each demonstration's pass had after the last finished layer."""

import json
import os
import shutil
import zlib
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

from easyep.atomic import write_bytes, writing
from easyep.distributed import Group
from easyep.errors import OutputError, first_line


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

        Outputs that hold anything but tensors and None cannot be remembered; then a run that is
        killed goes on behind an earlier layer.

        Raises:
            OutputError: the file cannot be written.
        """
        leaves, form = pytree.tree_flatten(output)
        self._fits &= all(isinstance(leaf, Tensor) for leaf in leaves if leaf is not None)
        if not self._fits:
            return
        tensors = {
            str(place): leaf.detach().cpu().contiguous()
            for place, leaf in enumerate(leaves)
            if leaf is not None
        }
        about = {
            "form": pytree.treespec_dumps(form),
            "leaves": str(len(leaves)),
            "crc32": str(_checksum(tensors.values())),
        }
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
        """The last finished layer; None if nothing, or not all of it, is remembered.

        Every file is read and held against its checksum: a damaged one is no state.
        """
        with suppress(OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError):
            about = json.loads((self._folder / "finished.json").read_bytes())
            layer, demos = int(about["layer"]), int(about["demos"])
            if about["key"] != self._key:
                return None
            for number in range(demos):
                self._read(layer, number, torch.device("cpu"))
            return Remembered(layer, lambda number: self._read(layer, number, device))
        return None

    def _read(self, layer: int, number: int, device: torch.device) -> Any:
        path = self._file(layer, number)
        with safe_open(path, "pt") as file:
            about, names = file.metadata(), set(file.keys())
            leaves = [
                file.get_tensor(str(place)).clone() if str(place) in names else None
                for place in range(int(about["leaves"]))
            ]
        if _checksum(leaf for leaf in leaves if leaf is not None) != int(about["crc32"]):
            raise ValueError(f"{path} is damaged")
        moved = [leaf.to(device) if leaf is not None else None for leaf in leaves]
        return pytree.tree_unflatten(moved, pytree.treespec_loads(about["form"]))

    def _file(self, layer: int, number: int) -> Path:
        return self._folder / f"layer-{layer:05d}" / f"{number:06d}.safetensors"


def _checksum(tensors: Iterable[Tensor]) -> int:
    """CRC-32 of the tensors' bytes, one behind the other."""
    found = 0
    for tensor in tensors:
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return found
