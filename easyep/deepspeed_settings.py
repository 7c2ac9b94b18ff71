"""DeepSpeed's settings in a file that the user gives, checked before anything is loaded."""

import json
from pathlib import Path
from typing import Any

from easyep.errors import ArtifactError

_DEVICES = (None, "none", "cpu")


def read_deepspeed_settings(path: str | None) -> dict[str, Any]:
    """The settings in a DeepSpeed configuration file; None = no settings.

    NVMe is refused: DeepSpeed (0.19) prepares a module at a time here, and each time removes what
    it has written before, so that the run would end in a crash of its own.

    Raises:
        ArtifactError: it cannot be read, is for something else than ZeRO-3, or offloads parameters
            to something else than main memory.
    """
    if path is None:
        return {}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"the DeepSpeed configuration {path} cannot be read: {error}") from None
    zero = found.get("zero_optimization", {}) if isinstance(found, dict) else None
    if not isinstance(zero, dict) or zero.get("stage", 3) != 3:
        raise ArtifactError(
            f"the DeepSpeed configuration {path} must be an object whose zero_optimization, if it "
            "has one, is of stage 3"
        )
    offload = zero.get("offload_param")
    if offload is not None and not isinstance(offload, dict):
        raise ArtifactError(
            f"the DeepSpeed configuration {path}: offload_param must be an object, such as "
            '{"device": "cpu"}'
        )
    device = offload.get("device") if offload else None
    if device not in _DEVICES:
        raise ArtifactError(
            f"the DeepSpeed configuration {path}: parameters can be offloaded to main memory "
            f'("device": "cpu"), not to {device!r}; --runner stream needs memory for one '
            "layer only, --runner memory --max-memory puts on the disk what does not fit"
        )
    return dict(found)
