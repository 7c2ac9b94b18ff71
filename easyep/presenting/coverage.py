"""What a selection keeps of domains, those that it was made for and others."""

from collections.abc import Mapping
from dataclasses import replace

from easyep import scoring
from easyep.artifacts import Selection
from easyep.errors import EasyEPError
from easyep.gathering import Gathered
from easyep.selection import retained_share


def kept_shares(found: Gathered, chosen: Selection) -> Mapping[str, list[float]]:
    """Domain -> the share of its own score that the kept experts hold, by layer.

    Of each observation of the model that the selection is of, by the criterion that chose; those
    that this criterion cannot score are left out.
    """
    recipe = (found.manifest or {}).get("recipe") or {}
    shares = {}
    for seen in found.observations:
        if not seen.model.same_model(chosen.model):
            continue
        try:
            scores = scoring.score([seen], chosen.criterion, tokens=recipe.get("tokens", "all"))
        except EasyEPError:
            continue
        there = {layer: ids for layer, ids in chosen.layers.items() if layer in scores.layers}
        held = retained_share(scores, replace(chosen, layers=there))
        shares[seen.domain] = list(held.values())
    return shares
