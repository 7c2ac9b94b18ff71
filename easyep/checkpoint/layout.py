"""Which bytes are whose: every tensor of a checkpoint, explained by its family's rules.

The layout is read off the names and shapes in the files, layer by layer, not assumed from the
family: one family can exist with an expert per tensor and with all experts stacked in one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from easyep.architectures.definitions import MTP, Stack
from easyep.architectures.router import Router
from easyep.architectures.rules import PER_EXPERT, TABLE, Rule
from easyep.architectures.spec import Architecture
from easyep.checkpoint.explaining import Explanation, Place, explain, is_mtp_name, places
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.headers import Tensor
from easyep.checkpoint.moe_layer import ExpertTensor, MoeLayer, RowsTensor
from easyep.errors import LayoutError


@dataclass(frozen=True)
class Layout:
    """Every tensor of a checkpoint, sorted into experts, rows and what stays as it is.

    Attributes:
        router: the numbers that the configuration states.
        layers: MoE layers by number, in ascending order. Behind the decoder layers are numbered
            the MTP layers, or a second set of experts in the decoder layers.
        kept: names of all other tensors; they stay as they are.
        layer_of: tensor name -> layer, for tensors in a layer of the stack that has the experts
            (not those of a vision tower with layers of its own).
        mtp_names: names of MTP tensors that are not in a layer of `layer_of`.
        mtp_depth: how many MTP layers the checkpoint holds, whether or not they have experts.
        second: what the second set of experts in the decoder layers is called; empty = none.
    """

    router: Router
    layers: Mapping[int, MoeLayer]
    kept: tuple[str, ...]
    layer_of: Mapping[str, int]
    mtp_names: frozenset[str] = frozenset()
    mtp_depth: int = 0
    second: str = ""

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """The decoder layers with routed experts, without MTP layers."""
        return tuple(i for i in self.layers if i < self.router.num_layers)

    @property
    def second_layers(self) -> tuple[int, ...]:
        """The numbers of the decoder layers' second sets of experts."""
        behind = (i for i in self.layers if i >= self.router.num_layers)
        return tuple(i for i in behind if not self.layers[i].is_mtp)

    @property
    def mtp_layers(self) -> tuple[int, ...]:
        """The MTP layers with routed experts, by their numbers in the checkpoint."""
        return tuple(i for i, layer in self.layers.items() if layer.is_mtp)

    def is_mtp(self, tensor: str) -> bool:
        """Whether the tensor of that name belongs to an MTP layer."""
        return tensor in self.mtp_names or self.layer_of.get(tensor, -1) >= self.router.num_layers

    def called(self, layer: int) -> str:
        """What to call the layer of that number in messages."""
        if layer not in self.second_layers:
            return f"layer {layer}"
        return f"layer {layer} (the {self.second} experts of layer {self.layers[layer].place})"


@dataclass
class _Found:
    """What was found in one layer so far."""

    stack: Stack
    prefix: str
    head: str
    experts: dict[int, dict[str, ExpertTensor]] = field(default_factory=dict)
    rows: list[RowsTensor] = field(default_factory=list)
    tables: list[Tensor] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)


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
    where = {name: places(architecture, name) for name in checkpoint.tensors}
    for tensor in checkpoint.tensors.values():
        explanation = explain(architecture, tensor.name, router.num_experts, where[tensor.name])
        if explanation is None:
            kept.append(tensor.name)
            continue
        place, index = explanation.place, explanation.layer(router.num_layers)
        entry = found.setdefault(index, _Found(place.stack, place.prefix, place.head))
        if entry.head != place.head:
            raise LayoutError(
                f"layer {index} has routed experts under {entry.prefix!r} and under "
                f"{place.prefix!r}; architecture {architecture.name} describes one set of experts "
                "per layer"
            )
        if not _add(entry, tensor, explanation, checkpoint, architecture, router):
            kept.append(tensor.name)
    layers = {i: _layer(i, found[i], router) for i in sorted(found)}
    layer_of = _layers_of(where, found, router)
    mtp_names = frozenset(n for n in checkpoint.tensors if is_mtp_name(architecture, n))
    behind = max(layer_of.values(), default=-1) + 1 - router.num_layers
    if architecture.mtp_names is not None and architecture.keys("mtp_layers"):
        # Layers under names of their own are not numbered one for one with the count.
        behind = max(1, router.mtp_layers) if mtp_names else 0
    second = architecture.second
    layout = Layout(
        router,
        layers,
        tuple(kept),
        layer_of,
        mtp_names,
        max(0, behind),
        second.name if second is not None and second.name != MTP else "",
    )
    _check_layers(layout, architecture, checkpoint)
    return layout


def _layers_of(
    where: Mapping[str, Iterable[Place]], found: Mapping[int, _Found], router: Router
) -> dict[str, int]:
    """Tensor -> layer, in the one stack of decoder layers that has experts, and in MTP layers."""
    heads: dict[str, set[str]] = {}
    for entry in found.values():
        heads.setdefault(entry.stack.name, set()).add(entry.head)
    for several in heads.values():
        if len(several) > 1:
            raise LayoutError(
                f"routed experts lie under {' and '.join(map(repr, sorted(several)))}; easyep "
                "prunes models with one stack of layers"
            )
    layer_of = {}
    for name, own in where.items():
        for place in own:
            if place.stack.name in ("", MTP) and place.head in heads.get(place.stack.name, ()):
                layer_of[name] = place.layer + (router.num_layers if place.stack.name else 0)
    return layer_of


def _add(
    entry: _Found,
    tensor: Tensor,
    explanation: Explanation,
    checkpoint: Checkpoint,
    architecture: Architecture,
    router: Router,
) -> bool:
    """Sort `tensor` into `entry`; False where it stays as it is after all."""
    rule = explanation.rule
    entry.rules[rule.label] = rule
    if rule.kind == PER_EXPERT:
        _add_expert(entry, tensor, explanation, router.num_experts)
        return True
    if rule.kind == TABLE:
        entry.tables.append(tensor)
        entry.parts[tensor.name] = rule.part
        return True
    if not tensor.shape and rule.part == "experts":
        return False  # one scalar for all stacked experts: it has no rows and stays
    per = architecture.setting(checkpoint.config, rule.rows_per_expert)
    tail = architecture.setting(checkpoint.config, rule.tail)
    expected = router.num_experts * per + tail
    if len(tensor.shape) <= rule.axis or tensor.shape[rule.axis] != expected:
        raise LayoutError(
            f"tensor {tensor.name!r} has shape {list(tensor.shape)}; with {router.num_experts} "
            f"experts axis {rule.axis} should have {expected} rows"
        )
    layer = explanation.layer(router.num_layers)
    layers = (layer, router.num_layers + layer) if rule.both else (layer,)
    if rule.both and (rule.axis < 1 or tensor.shape[rule.axis - 1] != 2):
        raise LayoutError(
            f"tensor {tensor.name!r} has shape {list(tensor.shape)}; the axis before axis "
            f"{rule.axis} should have one entry for each of the two sets of experts"
        )
    entry.rows.append(RowsTensor(tensor, rule.axis, per, tail, layers))
    entry.parts[tensor.name] = rule.part
    return True


def _add_expert(entry: _Found, tensor: Tensor, explanation: Explanation, experts: int) -> None:
    number, bank = explanation.number, explanation.rule.bank
    stated = int(number[:9])
    expert = stated - bank * experts
    if str(stated) != number or not 0 <= expert < experts:
        raise LayoutError(
            f"tensor {tensor.name!r} is of expert {number}; the configuration says that there "
            f"are {experts} ({bank * experts} to {(bank + 1) * experts - 1})"
        )
    head, tail = tensor.name[: explanation.start], tensor.name[explanation.end :]
    mine = entry.experts.setdefault(expert, {})
    mine[head + "#" + tail] = ExpertTensor(tensor, expert, head, tail, bank)


def _layer(index: int, found: _Found, router: Router) -> MoeLayer:
    _check_parts(index, found)
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
    is_mtp = found.stack.name == MTP or (not found.stack.name and index >= router.num_layers)
    return MoeLayer(
        index=index,
        place=index - router.num_layers if found.stack.name and not is_mtp else index,
        prefix=found.prefix,
        is_mtp=is_mtp,
        experts=tuple(tuple(found.experts[e].values()) for e in sorted(found.experts)),
        rows=tuple(found.rows),
        tables=tuple(found.tables),
        parts=found.parts,
    )


def _check_parts(index: int, found: _Found) -> None:
    there = {rule.part for rule in found.rules.values()}
    for part in dict.fromkeys(rule.part for rule in found.stack.rules):
        rules = [rule for rule in found.stack.rules if rule.part == part]
        fired = [rule for rule in rules if rule.label in found.rules]
        if not fired and not all(r.optional is True or r.optional in there for r in rules):
            others = sorted({f" or {r.optional!r}" for r in rules if isinstance(r.optional, str)})
            raise LayoutError(
                f"layer {index} ({found.prefix}...) has no tensor for the part {part!r}"
                f"{''.join(others)} "
                f"({' or '.join(rule.name.pattern for rule in rules)})"
            )
        if len(fired) > 1:
            raise LayoutError(
                f"layer {index} ({found.prefix}...) has the part {part!r} in two layouts: "
                f"{' and '.join(rule.label for rule in fired)}"
            )


def _check_layers(layout: Layout, architecture: Architecture, checkpoint: Checkpoint) -> None:
    expected = architecture.expected_moe_layers(checkpoint.config)
    if expected is None:
        expected = layout.moe_layers
    if not expected:
        raise LayoutError("config.json describes no layer with routed experts")
    odd = sorted(set(layout.moe_layers) ^ set(expected))
    if odd:
        has = "has" if odd[0] in layout.layers else "lacks"
        raise LayoutError(
            f"layer {odd[0]} {has} routed experts, contrary to config.json, "
            f"which describes {len(expected)} layers with experts ({expected[0]} to {expected[-1]})"
        )
    if layout.second:
        behind = {layout.router.num_layers + layer for layer in expected}
        if odd := sorted(behind ^ set(layout.second_layers)):
            raise LayoutError(
                f"layer {odd[0] - layout.router.num_layers} lacks its {layout.second} experts"
            )
