"""The README.md of a pruned checkpoint."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from easyep.artifacts import Selection
from easyep.models import Model

WORST = 3
"""How many of the layers that lost most the card names."""


def model_card(
    source: Model,
    config: Mapping[str, Any],
    selection: Selection,
    mtp: str,
    facts: Mapping[str, Any],
) -> str:
    """A model card in the form of the Hugging Face hub.

    Args:
        source: the model that was pruned.
        config: its config.
        selection: the experts that were kept.
        mtp: what happened to multi-token-prediction layers, as in `Recipe`.
        facts: `observations`, `retained_share` and `unreached` of the manifest, where they are
            known.
    """
    header: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["mixture-of-experts", "expert-pruning", "easyep", str(config.get("model_type"))],
    }
    if source.hub:
        header["base_model"] = source.hub
    domains = facts.get("observations", [])
    domains = [{**each, "domain": plain(each["domain"])} for each in domains]
    named = ", ".join(each["domain"] for each in domains)
    criterion = plain(selection.criterion)
    name = plain(source.name.rstrip("/").rsplit("/", 1)[-1])
    mtp_layers = ", except the multi-token-prediction layers, which were left out"
    unchanged = "Everything else is unchanged" + (mtp_layers if mtp == "drop" else "")
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False).strip(),
        "---",
        "",
        f"# {name}, {selection.keep} of {selection.num_experts} experts"
        + (f", for {named}" if named else ""),
        "",
        f"This is {name} with {selection.keep} of its {selection.num_experts} routed experts per "
        f"layer, chosen by the criterion {criterion}. {unchanged}; every tensor that "
        "was kept is byte-identical to the original.",
        "",
    ]
    if selection.groups == "flatten":
        lines += [
            "The experts were chosen freely and the router no longer limits its choice to groups "
            "(`n_group` and `topk_group` are 1): it is not the original router restricted to the "
            "kept experts.",
            "",
        ]
    if domains:
        lines += [
            "| shown to the model | weight | demonstrations | tokens |",
            "|---|---:|---:|---:|",
            *(
                f"| {d['domain']} | {d['weight']:g} | {d['num_demos']} | {d['num_tokens']:,} |"
                for d in domains
            ),
            "",
        ]
    shares: Mapping[int, float] = facts.get("retained_share", {})
    if shares:
        worst = sorted(shares, key=lambda layer: (shares[layer], int(layer)))[:WORST]
        lines += [
            f"The kept experts hold {min(shares.values()):.1%} to {max(shares.values()):.1%} of a "
            "layer's total score; least in "
            + ", ".join(f"layer {layer} ({shares[layer]:.1%})" for layer in worst)
            + ". That share is not an accuracy.",
            "",
        ]
    lines += _unreached(facts.get("unreached", {}), len(shares) * selection.num_experts)
    lines += [
        "**Limits.** The model was pruned for what it was shown and has lost experts that other "
        "subjects, languages and safety behaviour may rest on. Measure it on your own task "
        "before you rely on it: `easyep eval`.",
        "",
        "`easyep.json` beside this file holds the selection, the recipe and the checksums; "
        "`easyep verify . --source <original>` proves the bytes.",
        "",
    ]
    return "\n".join(lines)


def plain(name: object) -> str:
    """A name of other people's as text of Markdown: no markup, no HTML, on one line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(name)).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)


def _unreached(found: Mapping[str, Mapping[int, int]], experts: int) -> list[str]:
    """What is not known of experts that no demonstration reached."""
    counts = {domain: sum(layers.values()) for domain, layers in found.items()}
    if not any(counts.values()):
        return []
    each = ", ".join(f"{count:,} by {plain(domain)}" for domain, count in counts.items() if count)
    return [
        f"Of {experts:,} experts in all layers the demonstrations did not reach {each}; "
        "what those do is not known.",
        "",
    ]
