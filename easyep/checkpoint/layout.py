"""Which bytes are whose: every tensor of a checkpoint, explained by its family's rules.

The layout is read off the names and shapes in the files, layer by layer, not assumed from the
family: one family can exist with an expert per tensor and with all experts stacked in one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from easyep.architectures.rules import PER_EXPERT, Rule
from easyep.architectures.spec import Architecture, Router
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.headers import Tensor
from easyep.errors import LayoutError


@dataclass(frozen=True, slots=True)
class ExpertTensor:
    """A tensor of one expert; its name without the expert's number is ``head + tail``."""

    tensor: Tensor
    expert: int
    head: str
    tail: str

    def renumbered(self, expert: int) -> str:
        """The tensor's name if it were that of `expert`."""
        return f"{self.head}{expert}{self.tail}"


@dataclass(frozen=True, slots=True)
class RowsTensor:
    """A tensor with rows for every expert along `axis`, and `tail` more behind them."""

    tensor: Tensor
    axis: int
    rows_per_expert: int
    tail: int

    def shape_with(self, experts: int) -> tuple[int, ...]:
        """Its shape with another number of experts."""
        shape = list(self.tensor.shape)
        shape[self.axis] = experts * self.rows_per_expert + self.tail
        return tuple(shape)


@dataclass(frozen=True)
class MoeLayer:
    """The routed experts and the router of one layer.

    Attributes:
        index: the layer's number in the tensors' names.
        is_mtp: whether it is a multi-token-prediction layer, numbered after the last layer.
        experts: for each expert its own tensors; empty where all experts are stacked.
        rows: tensors with rows for every expert: router, biases, stacked experts.
        parts: name of a rowed tensor -> the part that the family calls it (``"router"``, ...).
    """

    index: int
    is_mtp: bool
    experts: tuple[tuple[ExpertTensor, ...], ...]
    rows: tuple[RowsTensor, ...]
    parts: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """Every tensor of a checkpoint, sorted into experts, rows and what stays as it is.

    Attributes:
        router: the numbers that the configuration states.
        layers: MoE layers by number, in ascending order, MTP layers included.
        kept: names of all other tensors; they stay as they are.
        layer_of: tensor name -> layer, for tensors in a layer of the stack that has the experts
            (not those of a vision tower with layers of its own).
    """

    router: Router
    layers: Mapping[int, MoeLayer]
    kept: tuple[str, ...]
    layer_of: Mapping[str, int]

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """The decoder layers with routed experts, without MTP layers."""
        return tuple(i for i, layer in self.layers.items() if not layer.is_mtp)

    @property
    def mtp_layers(self) -> tuple[int, ...]:
        """The MTP layers with routed experts, by their numbers in the checkpoint."""
        return tuple(i for i, layer in self.layers.items() if layer.is_mtp)

    @property
    def mtp_depth(self) -> int:
        """How many MTP layers the checkpoint holds, whether or not they have experts."""
        last = max(self.layer_of.values(), default=-1)
        return max(0, last + 1 - self.router.num_layers)

    def is_mtp(self, tensor: str) -> bool:
        """Whether the tensor of that name belongs to an MTP layer."""
        return self.layer_of.get(tensor, -1) >= self.router.num_layers


@dataclass
class _Found:
    """What was found in one layer so far."""

    prefix: str
    experts: dict[int, dict[str, ExpertTensor]]
    rows: list[RowsTensor]
    parts: dict[str, str]
    rules: dict[str, Rule]


def resolve(checkpoint: Checkpoint, architecture: Architecture) -> Layout:
    """Explain every tensor of `checkpoint`.

    Raises:
        LayoutError: a tensor that looks like routed experts or their router is explained by no
            rule or by two; experts are missing, surplus or differ in what they consist of; a
            shape does not fit the number of experts; a layer lacks a part. The message names
            the tensor.
        CheckpointError: the configuration does not state what is needed.
    """
    router = architecture.router(checkpoint.config)
    found: dict[int, _Found] = {}
    kept: list[str] = []
    stacks: dict[str, dict[str, int]] = {}  # what stands before the number -> tensor -> layer
    for tensor in checkpoint.tensors.values():
        scope = _scope(architecture, tensor.name)
        if scope is None:
            if architecture.namespace.fullmatch(tensor.name) and not _is_excluded(
                architecture, tensor.name
            ):
                raise _unexplained(tensor.name, architecture)
            kept.append(tensor.name)
            continue
        index, part = int(scope["layer"]), scope["part"]
        stacks.setdefault(tensor.name[: scope.start("layer")], {})[tensor.name] = index
        match = _explain(architecture, tensor.name, part)
        if match is None:
            kept.append(tensor.name)
            continue
        prefix = tensor.name[: scope.start("part")]
        entry = found.setdefault(index, _Found(prefix, {}, [], {}, {}))
        if entry.prefix != prefix:
            raise LayoutError(
                f"layer {index} has routed experts under {entry.prefix!r} and under {prefix!r}; "
                f"architecture {architecture.name} describes one set of experts per layer"
            )
        if not _add(entry, tensor, scope.start("part"), *match, router):
            kept.append(tensor.name)
    layers = {i: _layer(i, found[i], architecture, router) for i in sorted(found)}
    layer_of = stacks[_stack(found)] if found else {}
    layout = Layout(router, layers, tuple(kept), layer_of)
    _check_layers(layout, architecture, checkpoint)
    return layout


def _stack(found: Mapping[int, _Found]) -> str:
    """What stands before the layers' numbers in the names of routed experts."""
    stacks = {entry.prefix.removesuffix(f"{index}.") for index, entry in found.items()}
    if len(stacks) > 1:
        raise LayoutError(
            f"routed experts lie under {' and '.join(map(repr, sorted(stacks)))}; easyep prunes "
            "models with one stack of layers"
        )
    return stacks.pop()


def _scope(architecture: Architecture, name: str) -> re.Match[str] | None:
    return None if _is_excluded(architecture, name) else architecture.scope.fullmatch(name)


def _is_excluded(architecture: Architecture, name: str) -> bool:
    return architecture.exclude is not None and bool(architecture.exclude.search(name))


def _explain(architecture: Architecture, name: str, part: str) -> tuple[Rule, re.Match[str]] | None:
    """The one rule that explains a tensor; None where it is to stay as it is."""
    matches = [(rule, match) for rule in architecture.rules if (match := rule.name.fullmatch(part))]
    is_kept = any(pattern.fullmatch(part) for pattern in architecture.keep)
    if len(matches) + is_kept > 1:
        labels = [rule.label for rule, _ in matches] + ["keep"] * is_kept
        raise LayoutError(
            f"tensor {name!r} is explained by more than one rule of architecture "
            f"{architecture.name}: {', '.join(labels)}"
        )
    if not matches and not is_kept and architecture.namespace.fullmatch(part):
        raise _unexplained(name, architecture)
    return matches[0] if matches else None


def _unexplained(name: str, architecture: Architecture) -> LayoutError:
    rules = ", ".join(f"{rule.label} {rule.name.pattern}" for rule in architecture.rules)
    return LayoutError(
        f"tensor {name!r} looks like routed experts or their router, but no rule of architecture "
        f"{architecture.name} explains it ({rules}); leaving it alone could break the model, so "
        "easyep stops (docs/adding-an-architecture.md says how to describe it)"
    )


def _add(
    entry: _Found, tensor: Tensor, start: int, rule: Rule, match: re.Match[str], router: Router
) -> bool:
    """Sort `tensor` into `entry`; False where it stays as it is after all."""
    entry.rules[rule.label] = rule
    if rule.kind == PER_EXPERT:
        number = match["expert"]
        if str(int(number[:9])) != number or int(number) >= router.num_experts:
            raise LayoutError(
                f"tensor {tensor.name!r} is of expert {number}; the configuration says that there "
                f"are {router.num_experts} (0 to {router.num_experts - 1})"
            )
        head = tensor.name[: start + match.start("expert")]
        tail = tensor.name[start + match.end("expert") :]
        mine = entry.experts.setdefault(int(number), {})
        mine[head + "#" + tail] = ExpertTensor(tensor, int(number), head, tail)
        return True
    if not tensor.shape and rule.part == "experts":
        return False  # one scalar for all stacked experts: it has no rows and stays
    expected = router.num_experts * rule.rows_per_expert + rule.tail
    if len(tensor.shape) <= rule.axis or tensor.shape[rule.axis] != expected:
        raise LayoutError(
            f"tensor {tensor.name!r} has shape {list(tensor.shape)}; with {router.num_experts} "
            f"experts axis {rule.axis} should have {expected} rows"
        )
    entry.rows.append(RowsTensor(tensor, rule.axis, rule.rows_per_expert, rule.tail))
    entry.parts[tensor.name] = rule.part
    return True


def _layer(index: int, found: _Found, architecture: Architecture, router: Router) -> MoeLayer:
    for part in dict.fromkeys(rule.part for rule in architecture.rules):
        rules = [rule for rule in architecture.rules if rule.part == part]
        fired = [rule for rule in rules if rule.label in found.rules]
        if not fired and not all(rule.optional for rule in rules):
            raise LayoutError(
                f"layer {index} ({found.prefix}...) has no tensor for the part {part!r} "
                f"({' or '.join(rule.name.pattern for rule in rules)})"
            )
        if len(fired) > 1:
            raise LayoutError(
                f"layer {index} ({found.prefix}...) has the part {part!r} in two layouts: "
                f"{' and '.join(rule.label for rule in fired)}"
            )
    if found.experts:
        missing = [e for e in range(router.num_experts) if e not in found.experts]
        if missing:
            raise LayoutError(
                f"layer {index} ({found.prefix}...) has {len(found.experts)} experts, the "
                f"configuration says {router.num_experts}; expert {missing[0]} is missing"
            )
        first = set(found.experts[0])
        for expert, mine in found.experts.items():
            if odd := sorted(first ^ set(mine)):
                raise LayoutError(
                    f"layer {index}: experts 0 and {expert} do not consist of the same tensors; "
                    f"only one of them has {odd[0].replace('#', '<expert>')!r}"
                )
    return MoeLayer(
        index=index,
        is_mtp=index >= router.num_layers,
        experts=tuple(tuple(found.experts[e].values()) for e in sorted(found.experts)),
        rows=tuple(found.rows),
        parts=found.parts,
    )


def _check_layers(layout: Layout, architecture: Architecture, checkpoint: Checkpoint) -> None:
    expected = architecture.expected_moe_layers(checkpoint.config)
    if not expected:
        raise LayoutError("config.json describes no layer with routed experts")
    odd = sorted(set(layout.moe_layers) ^ set(expected))
    if odd:
        has = "has" if odd[0] in layout.layers else "lacks"
        raise LayoutError(
            f"layer {odd[0]} {has} routed experts, contrary to config.json, "
            f"which describes {len(expected)} layers with experts ({expected[0]} to {expected[-1]})"
        )
