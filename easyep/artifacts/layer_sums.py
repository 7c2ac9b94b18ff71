"""What is kept of a MoE layer where its whole record would be too large: sums for criteria."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from easyep.errors import ArtifactError

Float64 = npt.NDArray[np.float64]

COUNTED = "counted"
PEAKS = "peaks"


@dataclass(frozen=True)
class LayerSums:
    """Sums over the tokens of one layer, E experts.

    Attributes:
        arrays: ``KIND/CRITERION`` -> float64 [2, E], totals and numbers of routes, where KIND is
            ``all`` or ``response``; ``KIND/peaks`` -> float64 [E], the largest output norm of
            each expert; ``KIND/counted`` -> float64 [1], the number of tokens.
    """

    arrays: Mapping[str, Float64]

    def check(self, num_experts: int) -> None:
        """Whether the arrays are what a layer of so many experts has; for those of a file.

        Raises:
            ArtifactError: one has another type or shape, or a number of tokens is none.
        """
        for name, array in self.arrays.items():
            kind = name.partition("/")[2]
            if not kind:
                raise ArtifactError(f"{name[:100]!r} is no name of sums, such as all/easy-ep")
            shape = {COUNTED: (1,), PEAKS: (num_experts,)}.get(kind, (2, num_experts))
            if array.dtype != np.float64 or array.shape != shape:
                raise ArtifactError(
                    f"{name[:100]} must be float64 {list(shape)}, not {array.dtype} "
                    f"{list(array.shape)}"
                )
            if kind == COUNTED and not 0 <= array[0] < 2**53:
                raise ArtifactError(f"{name[:100]} is {array[0]}: no number of tokens")

    def of(self, name: str, tokens: str) -> Float64:
        """The array for a criterion, `COUNTED` or `PEAKS`.

        Raises:
            ArtifactError: the criterion was not summed up.
        """
        if f"{tokens}/{name}" not in self.arrays:
            raise ArtifactError(
                f"these observations were made without the full record: they hold sums for the "
                f"criteria {', '.join(self.criteria)} only; observe again with --records full, or "
                f"with --records none --criterion {name}"
            )
        return self.arrays[f"{tokens}/{name}"]

    @property
    def criteria(self) -> list[str]:
        """The criteria that can be scored."""
        names = {name.split("/", 1)[1] for name in self.arrays}
        return sorted(names - {COUNTED, PEAKS})

    def __add__(self, other: "LayerSums") -> "LayerSums":
        """The sums of both parts together."""
        if self.arrays.keys() != other.arrays.keys():
            raise ArtifactError("sums for different criteria cannot be added up")
        return LayerSums(
            {
                name: np.maximum(value, other.arrays[name])
                if name.endswith(f"/{PEAKS}")
                else value + other.arrays[name]
                for name, value in self.arrays.items()
            }
        )


def total(parts: Iterable[LayerSums]) -> LayerSums:
    """The sums of all parts together, at least one."""
    first, *others = parts
    for other in others:
        first = first + other
    return first
