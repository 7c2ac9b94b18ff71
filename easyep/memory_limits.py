"""How much memory a run may take on each device, in the forms that accelerate takes."""

import reprlib
from collections.abc import Mapping
from typing import Any

from easyep import choices
from easyep.errors import ArtifactError

MAIN = "cpu"  # accelerate's name for main memory

Limits = Mapping[str, int]  # MAIN, or the number of an accelerator -> bytes


def limits(name: str, value: Any) -> dict[str, int]:
    """A mapping of devices to bytes.

    Args:
        name: what the value is called in messages.
        value: a size such as ``6GiB``, which limits main memory; a text such as
            ``0=70GiB,cpu=100GiB``; or the mapping that such a text stands for.

    Raises:
        ArtifactError: it is none of these.
    """
    given = value
    if isinstance(given, str) and "=" in given:
        parts = [part.partition("=") for part in given.split(",")]
        given = {device.strip(): size.strip() for device, _, size in parts}
        if len(given) < len(parts):
            raise ArtifactError(f"{name} names a device twice: {reprlib.repr(value)}")
    if not isinstance(given, Mapping):
        return {MAIN: choices.size(name, given)}
    found = {}
    for device, size in given.items():
        key = str(device)
        if key != MAIN and not (key.isascii() and key.isdigit() and len(key) < 5):
            raise ArtifactError(
                f"{name} must be a size such as 6GiB, or sizes by device such as "
                f"0=70GiB,cpu=100GiB, not {reprlib.repr(value)}"
            )
        found[key if key == MAIN else str(int(key))] = choices.size(f"{name} of {key}", size)
    if not found:
        raise ArtifactError(f"{name} must name a device, such as cpu=6GiB")
    return found


def limit(limits: Limits | None, device: Any) -> int | None:
    """Bytes that a run may take on a torch device; None sets no limit.

    Args:
        limits: of a recipe.
        device: a `torch.device`; an accelerator without a number is the first.
    """
    key = MAIN if device.type == MAIN else str(device.index or 0)
    return (limits or {}).get(key)
