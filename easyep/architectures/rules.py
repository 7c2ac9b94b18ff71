"""How one family names its tensors: which belong to an expert, which have a row per expert."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyep.architectures.tables import check_keys, compiled

PER_EXPERT = "per_expert"
ROWS = "rows"
TABLE = "table"
KINDS = (PER_EXPERT, ROWS, TABLE)

# Where names give the decoder layer; what follows is what the rules of a family match.
SCOPE = r"(?:.+\.)?layers\.(?P<layer>0|[1-9]\d{0,5})\.(?P<part>.+)"

# Names that look as if they had to do with routed experts. A tensor with such a name must be
# explained by a rule or stand on the family's keep list; anything else would be left behind
# with the old numbers, silently.
NAMESPACE = r"(?s:.*(?:expert|router|e_score).*|(?:.*\.)?(?:gate|moe)(?:\..*)?)"


@dataclass(frozen=True)
class Rule:
    """One kind of tensor that changes when experts are dropped.

    Attributes:
        label: the name of the rule's table in the TOML file.
        kind: ``"per_expert"``: the name holds an expert's number (regex group ``expert``), the
            tensor is dropped or renamed. ``"rows"``: the tensor has rows for every expert.
            ``"table"``: the tensor's integer values are experts' numbers, ``top_k`` in each row.
        name: matches the whole name behind the layer's number.
        part: what the tensor is for (``"experts"``, ``"router"``, ...). Every MoE layer must
            have each part; several rules may describe one part in different layouts.
        axis: (rows) the axis that experts are counted along.
        rows_per_expert: (rows) how many consecutive rows are one expert's; a string is the key of
            `config.json` that says it.
        tail: (rows) rows behind the last expert's that are kept; or the key that says how many.
        bank: (per_expert) numbers are counted from ``bank * num_experts``: two sets of experts
            share one series of numbers.
        both: (rows) the axis before `axis` has two entries, one for each set of experts.
        optional: MoE layers without a tensor of this part are fine; the name of another part: those
            that have that one.
    """

    label: str
    kind: str
    name: re.Pattern[str]
    part: str
    axis: int = 0
    rows_per_expert: int | str = 1
    tail: int | str = 0
    bank: int = 0
    both: bool = False
    optional: bool | str = False

    @classmethod
    def from_toml(cls, label: str, table: Mapping[str, Any]) -> "Rule":
        """Raises ValueError where the table of a TOML file is not a rule."""
        check_keys(table, set(cls.__dataclass_fields__) - {"label"}, f"[tensors.{label}]")
        if table.get("kind") not in KINDS:
            raise ValueError(f"[tensors.{label}] needs kind = one of {', '.join(KINDS)}")
        name = compiled(table.get("name"), f"[tensors.{label}] name")
        if (table["kind"] == PER_EXPERT) != ("expert" in name.groupindex):
            raise ValueError(
                f"[tensors.{label}] name: a per_expert rule, and no other, "
                "has the regex group (?P<expert>...)"
            )
        for key, lowest in (("axis", 0), ("rows_per_expert", 1), ("tail", 0), ("bank", 0)):
            value = table.get(key, lowest)
            if isinstance(value, str) and key in ("rows_per_expert", "tail"):
                continue
            if type(value) is not int or value < lowest:
                raise ValueError(f"[tensors.{label}] {key} must be an integer >= {lowest}")
        if not isinstance(table.get("optional", False), bool | str):
            raise ValueError(f"[tensors.{label}] optional must be true, or the name of a part")
        return cls(**{"label": label, "part": label, **table, "name": name})
