"""What changes in `config.json` when experts are dropped; nothing else does.

The number of experts under every name that states it; the groups, when they are flattened; the
count of MTP layers, when those are dropped; and names of modules in quantisation settings that
contain an expert's number.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from easyep.architectures.rules import PER_EXPERT
from easyep.architectures.spec import Architecture
from easyep.checkpoint import json_text
from easyep.errors import LayoutError

# Settings of quantisers hold names of modules: in config.json under these keys, and in files of
# their own (ModelOpt).
QUANTISATION_KEYS = ("quantization_config", "compression_config", "quantization")
QUANTISATION_FILES = ("hf_quant_config.json",)

_EXPERT_NUMBER = re.compile(r"experts\\?\.(\d+)(?:\\?\.|$)", re.ASCII)

# (layer, expert) -> the expert's new number; None where it is dropped.
Renumber = Callable[[int, int], int | None]


def config_edits(
    config: Mapping[str, Any],
    architecture: Architecture,
    *,
    keep: int,
    flatten: bool,
    drop_mtp: bool,
    renumber: Renumber,
) -> dict[tuple[str, ...], Any]:
    """Every place of `config` that changes, with its new value.

    Args:
        config: the parsed `config.json`.
        architecture: its family.
        keep: experts per layer from now on.
        flatten: turn group-limited routing off.
        drop_mtp: declare no MTP layers.
        renumber: the new number of an expert.

    Raises:
        LayoutError: a quantisation setting names an expert in a way that cannot be followed.
    """
    edits: dict[tuple[str, ...], Any] = {}
    for path in architecture.aliases(config, "num_experts"):
        edits[path] = keep
    home = architecture.section(config)
    if flatten and architecture.is_grouped(config):
        for what in ("n_group", "topk_group"):
            edits.update(_all_set(config, architecture, home, what, 1))
    if drop_mtp and architecture.value(config, "mtp_layers", 0):
        edits.update(_all_set(config, architecture, home, "mtp_layers", 0))
    edits.update(quantisation_edits(config, architecture, renumber))
    return {path: value for path, value in edits.items() if json_text.at(config, path) != value}


def quantisation_edits(
    config: Mapping[str, Any], architecture: Architecture, renumber: Renumber
) -> dict[tuple[str, ...], Any]:
    """The quantisation settings in `config` that name experts, with the new numbers."""
    edits = {}
    sections: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [((), config)]
    sections += [((key,), value) for key, value in config.items() if isinstance(value, Mapping)]
    for path, section in sections:
        for key in QUANTISATION_KEYS:
            if isinstance(section.get(key), Mapping) and (*path, key) not in edits:
                changed = _renamed(section[key], architecture, renumber)
                if changed != section[key]:
                    edits[(*path, key)] = changed
    return edits


def edited_text(text: str, edits: Mapping[tuple[str, ...], Any]) -> str:
    """The text of `config.json` with `edits` made and every other character as it was."""
    return json_text.replaced(text, edits)


def _all_set(
    config: Mapping[str, Any], architecture: Architecture, home: tuple[str, ...], what: str, to: int
) -> dict[tuple[str, ...], int]:
    """`what` set to `to` wherever it is stated, or stated in the experts' section."""
    paths = list(architecture.aliases(config, what)) or [(*home, architecture.keys(what)[0])]
    return dict.fromkeys(paths, to)


def _renamed(value: Any, architecture: Architecture, renumber: Renumber) -> Any:
    """`value` with the names of experts renumbered; names of dropped experts are left out."""
    if isinstance(value, Mapping):
        renamed = {}
        for key, inner in value.items():
            new = _new_name(key, architecture, renumber)
            if new is not None:
                renamed[new] = _renamed(inner, architecture, renumber)
        return renamed
    if isinstance(value, list):
        items = []
        for item in value:
            new = _new_name(item, architecture, renumber) if isinstance(item, str) else item
            if new is not None:
                items.append(_renamed(new, architecture, renumber))
        return items
    return value


def _new_name(name: str, architecture: Architecture, renumber: Renumber) -> str | None:
    if not _EXPERT_NUMBER.search(name):
        return name
    if scope := architecture.scope.fullmatch(name):
        for rule in architecture.rules:
            # Settings name modules, rules match tensors: a module is a tensor without its end.
            match = rule.name.fullmatch(scope["part"] + ".weight")
            if match and rule.kind == PER_EXPERT:
                new = renumber(int(scope["layer"]), int(match["expert"]))
                begin, end = (scope.start("part") + at for at in match.span("expert"))
                return None if new is None else f"{name[:begin]}{new}{name[end:]}"
    raise LayoutError(
        f"a quantisation setting names the expert {name!r} in a way that easyep cannot renumber; "
        "write it as a module's full name (model.layers.3.mlp.experts.17...) or without a number"
    )
