"""The README.md of a pruned checkpoint."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from easyep.reporting.markdown import table
from easyep.reporting.numbers import size

WORST = 3
"""How many of the layers that lost most the card names."""


def model_card(manifest: Mapping[str, Any], measured: Sequence[str] = ()) -> str:
    """A model card in the form of the Hugging Face hub.

    Args:
        manifest: what `easyep.json` says, or will say: `source`, `selection` and `mtp`, and where
            they are known `base_model`, `bytes_before`, `bytes_after`, `observations`,
            `retained_share` and `unreached`.
        measured: paragraphs of what was measured on the checkpoint (`reporting.measured`).
    """
    source, selection = manifest["source"], manifest["selection"]
    keep, experts = selection["keep"], selection["num_experts"]
    domains = [plain(each["domain"]) for each in manifest.get("observations", [])]
    name = plain(str(source["name"]).rstrip("/").rsplit("/", 1)[-1])
    mtp_layers = ", except the multi-token-prediction layers, which were left out"
    unchanged = "Everything else is unchanged" + (mtp_layers if manifest["mtp"] == "drop" else "")
    title = f"# {name}, {keep} of {experts} experts"
    parts = [
        f"---\n{_header(source, manifest.get('base_model')).strip()}\n---",
        title + (f", for {', '.join(domains)}" if domains else ""),
        f"This is {name} with {keep} of its {experts} routed experts per layer, chosen by the "
        f"criterion {plain(selection['criterion'])}. {unchanged}; every tensor that was kept is "
        "byte-identical to the original.",
        _sizes(manifest),
        _groups(selection["groups"]),
        _shown(manifest.get("observations", [])),
        _coverage(manifest.get("retained_share", {})),
        _unreached(manifest, experts),
        *(["## Measured", *measured] if measured else ()),
        "**Limits.** The model was pruned for what it was shown and has lost experts that other "
        "subjects, languages and safety behaviour may rest on. Measure it on your own task "
        "before you rely on it: `easyep eval`.",
        "`easyep.json` beside this file holds the selection, the recipe and the checksums; "
        "`easyep verify . --source <original>` proves the bytes.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(name: object) -> str:
    """A name of other people's as text of Markdown: no markup, no HTML, on one line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(name)).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)


def _header(source: Mapping[str, Any], base_model: object) -> str:
    tags = ["mixture-of-experts", "expert-pruning", "easyep", source.get("model_type")]
    header: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": [str(tag) for tag in tags if tag],
    }
    if base_model:
        header["base_model"] = str(base_model)
    return str(yaml.safe_dump(header, sort_keys=False))


def _sizes(manifest: Mapping[str, Any]) -> str:
    selection = manifest["selection"]
    rows = [["routed experts per layer", f"{selection['num_experts']}", f"{selection['keep']}"]]
    if "bytes_after" in manifest:
        before, after = manifest["bytes_before"], manifest["bytes_after"]
        rows.append(["weights", size(before), f"{size(after)} ({after / before:.1%})"])
    return table(["", "original", "here"], rows, words={""})


def _groups(groups: str) -> str:
    if groups != "flatten":
        return ""
    return (
        "The experts were chosen freely and the router no longer limits its choice to groups "
        "(`n_group` and `topk_group` are 1): it is not the original router restricted to the "
        "kept experts."
    )


def _shown(observations: Sequence[Mapping[str, Any]]) -> str:
    if not observations:
        return ""
    rows = [
        [plain(d["domain"]), f"{d['weight']:g}", f"{d['num_demos']:,}", f"{d['num_tokens']:,}"]
        for d in observations
    ]
    columns = ["shown to the model", "weight", "demonstrations", "tokens"]
    return table(columns, rows, words={columns[0]})


def _coverage(shares: Mapping[Any, float]) -> str:
    if not shares:
        return ""
    worst = sorted(shares, key=lambda layer: (shares[layer], int(layer)))[:WORST]
    return (
        f"The kept experts hold {min(shares.values()):.1%} to {max(shares.values()):.1%} of a "
        "layer's total score; least in "
        + ", ".join(f"layer {layer} ({shares[layer]:.1%})" for layer in worst)
        + ". That share is not an accuracy."
    )


def _unreached(manifest: Mapping[str, Any], experts: int) -> str:
    """What is not known of experts that no demonstration reached."""
    found: Mapping[str, Mapping[Any, int]] = manifest.get("unreached", {})
    counts = {domain: sum(layers.values()) for domain, layers in found.items()}
    if not any(counts.values()):
        return ""
    each = ", ".join(f"{count:,} by {plain(domain)}" for domain, count in counts.items() if count)
    return (
        f"Of {len(manifest.get('retained_share', {})) * experts:,} experts in all layers the "
        f"demonstrations did not reach {each}; what those do is not known."
    )
