"""The numbers of a model's router, and which counts of kept experts it can work with."""

import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from easyep.errors import ArtifactError, CheckpointError, SelectionError

# More layers or experts than any model will have: a file that says so is broken.
LARGEST = 1_000_000


def budget(name: str, keep: Any) -> float:
    """What somebody wants to keep of each layer: a share in (0, 1), or an integer, a count.

    Raises:
        SelectionError: it is neither.
    """
    number = isinstance(keep, Real) and not isinstance(keep, bool)
    if number and 0 < keep < 1:
        return float(keep)
    whole = number and keep >= 1 and keep % 1 == 0  # infinity leaves no number
    if whole and (keep > 1 or isinstance(keep, Integral)):
        return int(keep)
    raise SelectionError(
        f"{name} must be a fraction in (0, 1) or a number of experts per layer, not "
        f"{reprlib.repr(keep)}"
        + ("; one expert is 1, and all of them are the model as it is" if whole else "")
    )


@dataclass(frozen=True)
class Router:
    """How many experts there are and how many a token gets, in every MoE layer alike.

    Attributes:
        num_experts: routed experts per layer (E).
        top_k: experts per token.
        n_group: contiguous blocks of ``E / n_group`` experts that are chosen first; 1 = no groups.
        topk_group: how many of those blocks a token may use.
        num_layers: decoder layers, dense ones included, MTP layers not.
        mtp_layers: MTP layers that the configuration declares (the checkpoint may have fewer:
            ``layout.resolve`` says which are there).
        group_best: a group is scored by this many of its best experts, and needs as many.
    """

    num_experts: int
    top_k: int
    n_group: int = 1
    topk_group: int = 1
    num_layers: int = 0
    mtp_layers: int = 0
    group_best: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.num_experts:
            raise CheckpointError(
                f"the configuration asks for {self.top_k} experts per token "
                f"of {self.num_experts}; valid are 1 to {self.num_experts}"
            )
        if self.n_group < 1 or self.num_experts % self.n_group:
            raise CheckpointError(
                f"the configuration splits {self.num_experts} experts into {self.n_group} groups; "
                "the count must be divisible by the number of groups"
            )
        if not 1 <= self.topk_group <= self.n_group:
            raise CheckpointError(
                f"the configuration uses {self.topk_group} of {self.n_group} groups per token; "
                f"valid are 1 to {self.n_group}"
            )
        if self.group_best < 1:
            raise CheckpointError(f"groups are scored by {self.group_best} experts; at least by 1")

    def group_of(self, expert: int) -> int:
        """The group that `expert` belongs to; groups are contiguous blocks of ids."""
        return expert // (self.num_experts // self.n_group)

    def valid_counts(self, groups: str, align: int = 1) -> list[int]:
        """All counts K, ascending, that `check_keep` accepts."""
        counts = range(1, self.num_experts + 1)
        return [keep for keep in counts if self._objection(keep, groups, align) is None]

    def count(self, keep: float, groups: str, align: int = 1) -> int:
        """The experts per layer that somebody wants: what `budget` takes.

        A count is taken as it is but for `align`; a share is rounded to the nearest count that
        works, unless that is not what was meant.

        Raises:
            SelectionError: the router cannot work with it.
        """
        wanted = budget("keep", keep)
        if isinstance(wanted, int) and wanted % align == 0:
            self.check_keep(wanted, groups, align)
            return wanted
        asked = wanted if isinstance(wanted, int) else wanted * self.num_experts
        if asked >= self.num_experts:
            self.check_keep(int(asked), groups, align)
        found = self.nearest_keep(asked / self.num_experts, groups, align)
        valid = self.valid_counts(groups, align)
        step = valid[1] - valid[0] if len(valid) > 1 else 1
        if abs(found - asked) >= step:
            # Rounding would not be what was meant: say what the router needs instead.
            self.check_keep(max(1, round(asked)), groups, align)
        return found

    def nearest_keep(self, fraction: float, groups: str, align: int = 1) -> int:
        """The count that works nearest to `fraction` of the experts; of two, the smaller.

        All experts are no answer unless no smaller count works.

        Args:
            fraction: in (0, 1), taken as the decimal number that it prints as.
            groups, align: as in `check_keep`.

        Raises:
            SelectionError: the fraction is not in (0, 1), or no count works.
        """
        if not 0 < fraction < 1:
            raise SelectionError(f"the share of experts must be between 0 and 1, not {fraction}")
        wanted = Fraction(str(float(fraction))) * self.num_experts
        valid = self.valid_counts(groups, align)
        if not valid:
            self.check_keep(max(1, round(wanted)), groups, align)  # says why
        smaller = [count for count in valid if count < self.num_experts]
        return min(smaller or valid, key=lambda count: (abs(count - wanted), count))

    def check_keep(self, keep: int, groups: str, align: int = 1) -> None:
        """Check that the router works with `keep` experts per layer.

        With more than one group and ``groups="balanced"`` the router stays group-limited: it
        scores a group by its ``group_best`` best experts and picks top-k within ``topk_group``
        groups, so each group needs the same number of experts, ``group_best`` at least, and
        enough for top-k. No runtime checks the last: it would choose masked experts in silence.

        Args:
            keep: experts per layer.
            groups: ``"balanced"`` or ``"flatten"``.
            align: what `keep` must be a multiple of, for the sake of an engine.

        Raises:
            SelectionError: it does not; the message names the nearest counts that work.
        """
        objection = self._objection(keep, groups, align)
        if objection is None:
            return
        valid = self.valid_counts(groups, align)
        below = [count for count in valid if count < keep][-1:]
        above = [count for count in valid if count > keep][:1]
        nearest = " and ".join(map(str, below + above))
        message = f"cannot keep {keep} of {self.num_experts} experts: {objection}"
        if nearest:
            message += f"; the nearest counts that work: {nearest}"
        if self._is_grouped(groups) and self._objection(keep, "flatten", align) is None:
            message += "; or choose groups 'flatten', which turns group-limited routing off"
        raise SelectionError(message)

    def to_json(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Router":
        """Raises ArtifactError where a field is missing, no integer, or impossible."""
        fields = list(cls.__dataclass_fields__)
        if not isinstance(value, Mapping):
            raise ArtifactError(f"the entry 'router' must be an object with {', '.join(fields)}")
        wrong = [field for field in fields if type(value.get(field)) is not int]
        if wrong:
            raise ArtifactError(
                f"the entry 'router' must be an object with {', '.join(fields)}; it has no integer "
                f"{', '.join(wrong)} (if another version of easyep wrote the file, make it again)"
            )
        if value["num_experts"] > LARGEST:
            raise ArtifactError(f"the entry 'router' has more experts than any model ({LARGEST})")
        try:
            return cls(**{field: value[field] for field in fields})
        except CheckpointError as error:
            raise ArtifactError(f"the entry 'router' is impossible: {error}") from None

    def _is_grouped(self, groups: str) -> bool:
        return groups != "flatten" and self.n_group > 1

    def _objection(self, keep: int, groups: str, align: int) -> str | None:
        if keep > self.num_experts:
            return f"there are only {self.num_experts}"
        if keep < self.top_k:
            return f"each token is routed to {self.top_k}"
        if keep % align:
            return f"it is not a multiple of {align}"
        if not self._is_grouped(groups):
            return None
        if keep % self.n_group:
            return (
                f"the router has {self.n_group} groups, and each must keep the same number "
                f"(a multiple of {self.n_group} in all)"
            )
        per_group = keep // self.n_group
        if per_group < self.group_best:
            return (
                f"the router scores each of its {self.n_group} groups by its {self.group_best} "
                "best experts"
            )
        if self.topk_group * per_group < self.top_k:
            return (
                f"a token reaches {self.topk_group} of {self.n_group} groups; they would hold "
                f"{self.topk_group * per_group} experts, and a token is routed to {self.top_k}"
            )
        return None
