"""DeepSpeed's settings in a file that the user gives, checked before anything is loaded."""

from pathlib import Path
from typing import Any

from easyep import strict_json
from easyep.errors import ArtifactError
from easyep.given_files import read_whole

_MOST_BYTES = 1_000_000

_DEVICES = (None, "none", "cpu", "nvme")


def read_deepspeed_settings(path: str | None) -> dict[str, Any]:
    """The settings in a DeepSpeed configuration file; None = no settings.

    Raises:
        ArtifactError: it cannot be read, is for something else than ZeRO-3, or offloads parameters
            to something else than main memory or a folder on NVMe.
    """
    if path is None:
        return {}
    try:
        found = strict_json.parse(read_whole(path, _MOST_BYTES).decode("utf-8"))
    except (OSError, ValueError) as error:
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
            f'("device": "cpu") or to a folder ("device": "nvme"), not to {device!r}'
        )
    place = offload.get("nvme_path") if offload else None
    if device == "nvme" and not (isinstance(place, str) and Path(place).is_dir()):
        raise ArtifactError(
            f"the DeepSpeed configuration {path}: nvme_path must name a folder that is there, not "
            f"{place!r}"
        )
    return dict(found)
