"""What a launcher says: which of how many processes this is.

Launchers (`torchrun`, `accelerate launch`, `deepspeed`) start the same command in every process,
on one machine or many, and say in the environment which of them each is.
"""

import os
import socket
from dataclasses import dataclass

from easyep.errors import ObservationError


@dataclass(frozen=True)
class Rank:
    """Which of how many processes this is.

    Attributes:
        number, size: among all.
        local, local_size: among those of this machine.
    """

    number: int = 0
    size: int = 1
    local: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that has the result."""
        return self.number == 0

    def __str__(self) -> str:
        return f"rank {self.number} of {self.size} on {socket.gethostname()}"


def rank() -> Rank:
    """What the launcher says; where there is none, one process of one.

    Raises:
        ObservationError: what it says contradicts itself.
    """
    found = {
        "number": os.environ.get("RANK", "0"),
        "size": os.environ.get("WORLD_SIZE", "1"),
        "local": os.environ.get("LOCAL_RANK", "0"),
        # torchrun's name, then DeepSpeed's
        "local_size": os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("LOCAL_SIZE", "1")),
    }
    if found["size"] == "1":
        return Rank()
    here = Rank(**{name: int(text) for name, text in found.items() if text.isdecimal()})
    if not here.number < here.size or not here.local < here.local_size <= here.size:
        raise ObservationError(
            f"the environment variables of a launcher contradict each other: {found}; start "
            "with torchrun, accelerate launch or deepspeed, or unset WORLD_SIZE"
        )
    return here
