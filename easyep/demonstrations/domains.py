"""The domains that easyep has demonstrations for."""

import os
from pathlib import Path

from easyep import resources
from easyep.errors import DemosError
from easyep.registry import unknown_name


def domains(calibration: str = "") -> list[str]:
    """The names of the domains in `calibration_data/` or its subfolder `calibration`."""
    return sorted(path.stem for path in _folder(calibration).glob("*.jsonl"))


def domain_file(
    name: str, calibration: str = "", *, otherwise: str = "--demos FILE.jsonl takes your own"
) -> Path:
    """The demonstrations of the domain `name`.

    Args:
        name: for example ``"math"``.
        calibration: the subfolder that a model reads its demonstrations from, see
            `recipes/models.yaml`.
        otherwise: what the error says that one can do instead.

    Raises:
        UnknownNameError: there is no such domain for this model.
    """
    known = domains(calibration)
    if name not in known:
        raise unknown_name("domain", name, known, otherwise)
    return _folder(calibration) / f"{name}.jsonl"


def file_or_domain(name: str, calibration: str = "") -> Path:
    """A file of demonstrations, or that of the domain `name`.

    Raises:
        UnknownNameError: it does not look like a file, and there is no such domain.
    """
    if os.sep in name or name.endswith((".jsonl", ".json")) or Path(name).is_file():
        return Path(name)
    return domain_file(name, calibration, otherwise="a path to a JSONL file also does")


def parse_weighted(text: str) -> tuple[str, float]:
    """Split ``"NAME:0.5"`` into name and weight; without a weight it is 1.

    Raises:
        DemosError: the weight is not a positive number.
    """
    name, colon, weight = text.rpartition(":")
    if not colon:
        return text, 1.0
    try:
        value = float(weight)
    except ValueError:
        # A colon can be part of a path; only a number after the last one is a weight.
        return text, 1.0
    if not 0 < value < float("inf"):
        raise DemosError(f"the weight of {name!r} must be a positive number, not {weight}")
    return name, value


def parse_domain(text: str) -> tuple[str, float]:
    """As `parse_weighted`, for the name of a domain: what follows a colon is a weight.

    Raises:
        DemosError: it is no positive number.
    """
    name, weight = parse_weighted(text)
    if ":" in name:
        name, _, given = text.partition(":")
        raise DemosError(f"the weight of {name!r} must be a positive number, not {given}")
    return name, weight


def check_unweighted(text: str) -> None:
    """Check that the name of a domain or file brings no weight, where nothing is mixed.

    Raises:
        DemosError: it does.
    """
    name, colon, _ = text.rpartition(":")
    if colon and parse_weighted(text)[0] == name:
        raise DemosError(f"{text!r} has a weight, and nothing is mixed here: name {name!r}")


def _folder(calibration: str) -> Path:
    return resources.folder("calibration_data") / calibration
