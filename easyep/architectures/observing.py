"""What a family's TOML file says for observation, in the table ``[observation]``."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from easyep.architectures.tables import check_keys

# How a diffusion model sees the text that it fills in (`observation.denoising`).
DIFFUSION = ("full", "blocks", "canvas")


@dataclass(frozen=True)
class ObservationNotes:
    """What cannot be found out from what the model computes.

    Attributes:
        stream: the submodule of a decoder layer whose input is the residual stream before the
            MoE block; None = it is found out (docs/decisions, number 4).
        diffusion: one of `DIFFUSION`; None = the model writes one token after the other.
        block: tokens that a diffusion model fills in together, or the configuration's key for
            their number.
    """

    stream: str | None = None
    diffusion: str | None = None
    block: int | str = 32

    @classmethod
    def from_toml(cls, table: Mapping[str, Any]) -> "ObservationNotes":
        """Raises ValueError where the table holds anything else."""
        check_keys(table, [field.name for field in fields(cls)], "[observation]")
        stream = table.get("stream")
        if stream is not None and (not isinstance(stream, str) or not stream):
            raise ValueError("[observation] stream must be the name of a submodule")
        diffusion, block = table.get("diffusion"), table.get("block", cls.block)
        if diffusion not in (None, *DIFFUSION):
            raise ValueError(f"[observation] diffusion must be one of {', '.join(DIFFUSION)}")
        if type(block) not in (int, str) or not block or (type(block) is int and block < 1):
            raise ValueError("[observation] block must be a number of tokens, or a key")
        return cls(stream, diffusion, block)
