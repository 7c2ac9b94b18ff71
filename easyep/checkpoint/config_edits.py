"""What changes in `config.json` when experts are dropped; nothing else does.

The number of experts under every name that states it; the groups, when they are flattened; the
count of MTP layers, when those are dropped; and names of modules in quantisation settings that
contain an expert's number.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from easyep.architectures.spec import Architecture
from easyep.checkpoint import json_text
from easyep.checkpoint.renumbering import Rename

# Settings of quantisers hold names of modules: in config.json under these keys, and in files of
# their own (ModelOpt; GPTQ; AWQ; AutoRound).
QUANTISATION_KEYS = ("quantization_config", "compression_config", "quantization")
QUANTISATION_FILES = (
    *("hf_quant_config.json", "quantize_config.json"),
    *("quant_config.json", "quantization_config.json"),
)


def config_edits(
    config: Mapping[str, Any],
    architecture: Architecture,
    *,
    keep: int,
    flatten: bool,
    drop_mtp: bool,
    rename: Rename,
) -> dict[tuple[str, ...], Any]:
    """Every place of `config` that changes, with its new value.

    Args:
        config: the parsed `config.json`.
        architecture: its family.
        keep: experts per layer from now on.
        flatten: turn group-limited routing off.
        drop_mtp: declare no MTP layers.
        rename: the new name of a module.

    Raises:
        LayoutError: a quantisation setting names an expert in a way that cannot be followed.
    """
    edits: dict[tuple[str, ...], Any] = {}
    counts = {**architecture.aliases(config, "num_experts"), **architecture.echoes(config)}
    for path, stated in counts.items():
        edits[path] = [keep] * len(stated) if isinstance(stated, list) else keep
    home = architecture.section(config)
    if flatten and architecture.is_grouped(config):
        for what in ("n_group", "topk_group"):
            edits.update(_all_set(config, architecture, home, what, 1))
    if drop_mtp and architecture.value(config, "mtp_layers", 0):
        edits.update(_all_set(config, architecture, home, "mtp_layers", 0))
    edits.update(quantisation_edits(config, rename))
    return {path: value for path, value in edits.items() if json_text.at(config, path) != value}


def quantisation_settings(
    config: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Settings of quantisers anywhere in `config`, which itself lies under `path`: where, what."""
    for key, value in config.items():
        if isinstance(value, Mapping) and key in QUANTISATION_KEYS:
            yield (*path, key), value
        elif isinstance(value, Mapping):
            yield from quantisation_settings(value, (*path, key))


def quantisation_edits(config: Mapping[str, Any], rename: Rename) -> dict[tuple[str, ...], Any]:
    """The quantisation settings in `config` that name experts, with the new names."""
    edits = {}
    for path, settings in quantisation_settings(config):
        changed = _renamed(settings, rename)
        if changed != settings:
            edits[path] = changed
    return edits


def quantisation_file_edits(value: Mapping[str, Any], rename: Rename) -> dict[tuple[str, ...], Any]:
    """As `quantisation_edits`, for a file that holds nothing but such settings."""
    renamed = {key: _renamed(inner, rename) for key, inner in value.items()}
    return {(key,): inner for key, inner in renamed.items() if inner != value[key]}


def edited(text: str, edits: Mapping[tuple[str, ...], Any]) -> bytes:
    """The content of a file whose text is `text`, with `edits` made and nothing else changed."""
    # Half a character, which JSON can say and a file cannot hold, stays escaped.
    return json_text.replaced(text, edits).encode(errors="backslashreplace")


def _all_set(
    config: Mapping[str, Any], architecture: Architecture, home: tuple[str, ...], what: str, to: int
) -> dict[tuple[str, ...], int]:
    """`what` set to `to` wherever it is stated, or stated in the experts' section."""
    paths = list(architecture.aliases(config, what)) or [(*home, architecture.keys(what)[0])]
    return dict.fromkeys(paths, to)


def _renamed(value: Any, rename: Rename) -> Any:
    """`value` with the names of experts renumbered; names of dropped experts are left out."""
    if isinstance(value, Mapping):
        renamed = {}
        for key, inner in value.items():
            new = rename(key)
            if new is not None:
                renamed[new] = _renamed(inner, rename)
        return renamed
    if isinstance(value, list):
        items = []
        for item in value:
            new = rename(item) if isinstance(item, str) else item
            if new is not None:
                items.append(_renamed(new, rename))
        return items
    return value
