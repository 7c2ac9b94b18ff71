"""Which rule of a family explains a tensor's name."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from easyep.architectures.definitions import MTP, Stack
from easyep.architectures.rules import PER_EXPERT, Rule
from easyep.architectures.spec import Architecture
from easyep.errors import LayoutError


class Place(NamedTuple):
    """Where in a series of MoE layers a name lies.

    Attributes:
        stack: the series.
        layer: the number in the name.
        head: what stands before that number.
        prefix: what stands before the part that the rules look at.
        part: that part.
    """

    stack: Stack
    layer: int
    head: str
    prefix: str
    part: str


class Explanation(NamedTuple):
    """The rule that explains a tensor, and the expert's number in its name, if there is one.

    `number` is as it stands in the name; `start` and `end` say where.
    """

    place: Place
    rule: Rule
    number: str = ""
    start: int = 0
    end: int = 0

    def layer(self, num_layers: int) -> int:
        """The layer's number in selections: those of a second series follow the first's."""
        return self.place.layer + (num_layers if self.place.stack.name else 0)


def is_mtp_name(architecture: Architecture, name: str) -> bool:
    """Whether a name is of an MTP layer that is not numbered after the last decoder layer."""
    own = architecture.mtp_names
    return own is not None and own.fullmatch(name) is not None


def places(architecture: Architecture, name: str) -> list[Place]:
    """Where `name` lies; nowhere, or in two series where two sets of experts share a layer."""
    if architecture.exclude is not None and architecture.exclude.search(name):
        return []
    mtp = is_mtp_name(architecture, name)
    found = []
    for stack in architecture.stacks:
        scope = stack.scope.fullmatch(name) if mtp == (stack.name == MTP) else None
        if scope is not None:
            head, prefix = name[: scope.start("layer")], name[: scope.start("part")]
            found.append(Place(stack, int(scope["layer"]), head, prefix, scope["part"]))
    return found


def explain(
    architecture: Architecture, name: str, experts: int, found: list[Place] | None = None
) -> Explanation | None:
    """The one rule that explains a tensor; None where it is to stay as it is.

    Args:
        architecture: the family.
        name: the tensor's name.
        experts: routed experts per layer.
        found: its `places`, where they were asked for already.

    Raises:
        LayoutError: no rule, or more than one, explains a name that looks like routed experts.
    """
    found = places(architecture, name) if found is None else found
    matches = [match for place in found for match in _matches(place, name)]
    if len(matches) > 1:  # two sets of experts in one series of numbers
        matches = [each for each in matches if _in_bank(each, experts)]
    kept = _is_kept(found)
    if len(matches) + kept > 1:
        labels = [each.rule.label for each in matches] + ["keep"] * kept
        raise LayoutError(
            f"tensor {name!r} is explained by more than one rule of architecture "
            f"{architecture.name}: {', '.join(labels)}"
        )
    if not matches and not kept and _looks_routed(architecture, found, name):
        raise LayoutError(
            f"tensor {name!r} looks like routed experts or their router, but no rule of "
            f"architecture {architecture.name} explains it ({_rules(architecture)}); leaving it "
            "alone could break the model, so easyep stops (docs/adding-an-architecture.md says "
            "how to describe it)"
        )
    return matches[0] if matches else None


def _is_kept(found: Iterable[Place]) -> bool:
    """Whether a name is on the family's list of what looks like routed experts and is not."""
    return any(pattern.fullmatch(place.part) for place in found for pattern in place.stack.keep)


def _matches(place: Place, name: str) -> Iterator[Explanation]:
    for rule in place.stack.rules:
        match = rule.name.fullmatch(place.part)
        if match and rule.kind == PER_EXPERT:
            begin = len(place.prefix)
            start, end = (begin + at for at in match.span("expert"))
            yield Explanation(place, rule, name[start:end], start, end)
        elif match:
            yield Explanation(place, rule)


def _in_bank(explanation: Explanation, experts: int) -> bool:
    rule = explanation.rule
    if rule.kind != PER_EXPERT:
        return True
    return rule.bank * experts <= int(explanation.number[:9]) < (rule.bank + 1) * experts


def _looks_routed(architecture: Architecture, found: list[Place], name: str) -> bool:
    if found:
        return any(architecture.namespace.fullmatch(place.part) for place in found)
    if architecture.exclude is not None and architecture.exclude.search(name):
        return False
    # MTP modules that a family describes no experts for are dense.
    if is_mtp_name(architecture, name) and not any(s.name == MTP for s in architecture.stacks):
        return False
    return architecture.namespace.fullmatch(name) is not None


def _rules(architecture: Architecture) -> str:
    rules = [rule for stack in architecture.stacks for rule in stack.rules]
    return ", ".join(dict.fromkeys(f"{rule.label} {rule.name.pattern}" for rule in rules))
