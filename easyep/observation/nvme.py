"""Parameters that DeepSpeed keeps on NVMe: what has to be right, since it does not look itself."""

import os
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from easyep.atomic import writing
from easyep.errors import MissingDependencyError, NoRoomError, OutputError, first_line
from easyep.launcher import Rank
from easyep.passing_folder import PassingFolder
from easyep.time_limit import within

_COMPILING = 1800  # seconds


def is_on_nvme(settings: Mapping[str, Any]) -> bool:
    """Whether these settings of DeepSpeed put parameters there."""
    offload = settings["zero_optimization"].get("offload_param") or {}
    return bool(offload.get("device") == "nvme")


def prepare_nvme(settings: dict[str, Any], model: nn.Module, here: Rank) -> Path:
    """Make a folder of this process for a model's parameters, which goes with the model.

    Args:
        settings: DeepSpeed's; they get the folder, and buffers that are large enough.
        model: all that will be divided, on any device.
        here: this process.

    Returns:
        The folder.

    Raises:
        MissingDependencyError: what DeepSpeed writes with cannot be compiled.
        NoRoomError: there is no room.
        OutputError: it cannot be written to past the system's cache.
    """
    _load_writer()
    offload = dict(settings["zero_optimization"]["offload_param"])
    settings["zero_optimization"] = {**settings["zero_optimization"], "offload_param": offload}
    parent = Path(offload["nvme_path"])
    needed = sum(p.numel() * p.element_size() for p in model.parameters())
    needed = -(-needed // here.size) * here.local_size
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise NoRoomError(
            f"the parameters take {needed / 1e9:.1f} GB of {parent}, where {free / 1e9:.1f} GB are "
            "free; free some room, choose another nvme_path, or start more processes"
        )
    folder = PassingFolder(parent)
    weakref.finalize(model, folder.remove)
    with writing(folder.path):  # not all file systems can
        os.close(os.open(folder.path / "try", os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    largest = max(-(-p.numel() // here.size) for p in model.parameters())
    offload["nvme_path"] = str(folder.path)
    # A buffer holds one parameter's part; all parts of one module are there at the same time.
    offload["buffer_size"] = max(largest, offload.get("buffer_size", 0))
    return folder.path


def check_written(folder: Path, model: nn.Module) -> None:
    """Check that all parts are on the disk: DeepSpeed does not see that a write has failed.

    Raises:
        OutputError: they are not.
    """
    parts: list[Any] = [getattr(parameter, "ds_tensor", None) for parameter in model.parameters()]
    expected = sum(
        part.ds_numel * part.element_size()
        for part in parts
        if getattr(part.final_location, "value", None) == "nvme"
    )
    found = sum(path.stat().st_blocks * 512 for path in folder.rglob("*.swp"))
    if found < expected:
        raise OutputError(
            f"{folder} has {found:,} bytes of parameters instead of {expected:,}: something else "
            "takes the room there, or the disk fails"
        )


def _load_writer() -> None:
    """Compile what DeepSpeed writes with, the first time on a machine."""
    from deepspeed.ops.op_builder import AsyncIOBuilder

    try:
        within(_COMPILING, lambda: AsyncIOBuilder().load(verbose=False))
    except (ImportError, OSError, RuntimeError) as error:  # TimeoutError is an OSError
        raise MissingDependencyError(
            "offloading parameters to NVMe needs DeepSpeed's async_io, which is compiled when it "
            f"is first used, and was not: {first_line(error)}; install a C++ compiler, ninja and "
            "libaio (apt-get install g++ ninja-build libaio-dev), and if an earlier run was cut "
            "short while it compiled, remove async_io and pin_memory in ~/.cache/torch_extensions"
        ) from error
