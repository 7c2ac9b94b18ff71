"""The two numbers of a machine that a roofline needs: bandwidth and peak."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from easyep.errors import EvaluationError
from easyep.registry import unknown_name


@dataclass(frozen=True)
class Machine:
    """One accelerator, or several that share each matrix evenly, or a CPU.

    What they tell each other is left out: a prediction for several is an upper bound.

    Attributes:
        name: for people, such as ``"h200x8"``.
        devices: how many.
        memory: bytes of all together.
        bandwidth: bytes per second of all together.
        peak: type -> FLOP/s of all together, dense.
        source: where the numbers come from.
    """

    name: str
    devices: int
    memory: float
    bandwidth: float
    peak: Mapping[str, float]
    source: str

    def peak_of(self, dtype: str) -> float:
        """FLOP/s for matrices of `dtype`; of bfloat16 where the machine has no units for it."""
        for each in (dtype, "bfloat16", "float32"):
            if each in self.peak:
                return self.peak[each]
        raise EvaluationError(f"{self.name} has no peak for {dtype}")

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "peak": dict(self.peak)}


def accelerators() -> list[str]:
    """Names of the table, sorted."""
    return sorted(_table())


def machine(name: str) -> Machine:
    """A machine of the table: ``"h200"``, or eight of them: ``"h200x8"``.

    Raises:
        UnknownNameError: the table has no such accelerator; the message lists them.
        EvaluationError: there are none of them.
    """
    kind, count = name.lower(), 1
    several = re.fullmatch(r"(.+)x(\d{1,6})", kind)
    if kind not in _table() and several:
        kind, count = several[1], int(several[2])
    if kind not in _table():
        hint = "several are h200x8; `probe` measures the machine that this runs on"
        raise unknown_name("accelerator", kind, [*_table(), "probe"], hint)
    if not count:
        raise EvaluationError(f"{name}: at least one accelerator is needed")
    entry = _table()[kind]
    return Machine(
        name if count > 1 else kind,
        count,
        count * entry["memory"] * 1e9,
        count * entry["bandwidth"] * 1e9,
        {dtype: count * tflops * 1e12 for dtype, tflops in entry["peak"].items()},
        entry["source"],
    )


@cache
def _table() -> dict[str, Any]:
    file = resources.files("easyep.evaluation.roofline") / "accelerators.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))
