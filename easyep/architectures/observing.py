"""What a family's TOML file says for observation, in the table ``[observation]``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ObservationNotes:
    """What cannot be found out from what the model computes.

    Attributes:
        stream: the submodule of a decoder layer whose input is the residual stream before the
            MoE block; None = it is found out (docs/decisions, number 4).
    """

    stream: str | None = None

    @classmethod
    def from_toml(cls, table: Mapping[str, Any]) -> "ObservationNotes":
        """Raises ValueError where the table holds anything else."""
        if unknown := sorted(set(table) - {"stream"}):
            raise ValueError(f"[observation] has unknown key {unknown[0]!r} (valid: stream)")
        stream = table.get("stream")
        if stream is not None and (not isinstance(stream, str) or not stream):
            raise ValueError("[observation] stream must be the name of a submodule")
        return cls(stream)
