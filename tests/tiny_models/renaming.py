"""Tensors as transformers saves them -> tensors as the released checkpoint has them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Renaming:
    r"""One entry of ``[[tensors]]``; the first that matches a name is applied.

    Attributes:
        match: regular expression that must match the whole name.
        to: new names, with ``\1`` or ``\g<layer>`` for groups. None: dropped. Several: the rows
            (axis -2) are cut in as many equal parts. With ``{expert}``: one tensor per expert.
        transpose: swap the last two axes.
        less: entries at the end of axis 0 that the release does not have.
        stack: tensors of the same new name are stacked, by the number in the group `expert`.
    """

    match: re.Pattern[str]
    to: tuple[str, ...]
    transpose: bool = False
    less: int = 0
    stack: bool = False

    @classmethod
    def from_toml(cls, table: Mapping[str, Any]) -> "Renaming":
        """A rule from its table."""
        names = table.get("to", [])
        rest = {key: value for key, value in table.items() if key not in ("match", "to")}
        to = (names,) if isinstance(names, str) else tuple(names)
        return cls(re.compile(table["match"]), to, **rest)

    def pieces(self, found: re.Match[str], tensor: Any) -> Iterable[tuple[str, Any]]:
        """New names and tensors for the one whose name was `found`."""
        if self.transpose:
            tensor = tensor.transpose(-1, -2)
        tensor = tensor[: len(tensor) - self.less]
        parts = [tensor] if len(self.to) < 2 else tensor.chunk(len(self.to), dim=-2)
        for template, part in zip(self.to, parts, strict=False):
            name = found.expand(template)
            if "{expert}" in name:
                for expert, row in enumerate(part):
                    yield name.replace("{expert}", str(expert)), row.contiguous()
            else:
                yield name, part.contiguous()


def renamed(tensors: Mapping[str, Any], rules: Iterable[Renaming]) -> dict[str, Any]:
    """`tensors` under their released names; those that no rule matches keep theirs."""
    import torch

    rules = tuple(rules)
    out: dict[str, Any] = {}
    stacks: dict[str, dict[int, Any]] = {}
    for name, tensor in tensors.items():
        rule, found = _first(rules, name)
        if rule is None or found is None:
            out[name] = tensor
            continue
        for new, piece in rule.pieces(found, tensor):
            if rule.stack:
                stacks.setdefault(new, {})[int(found["expert"])] = piece
            else:
                assert new not in out, f"two tensors become {new}"
                out[new] = piece
    for name, members in stacks.items():
        out[name] = torch.stack([members[number] for number in sorted(members)])
    return out


def _first(rules: tuple[Renaming, ...], name: str) -> tuple[Renaming | None, re.Match[str] | None]:
    for rule in rules:
        if found := rule.match.fullmatch(name):
            return rule, found
    return None, None
