"""Recipe + observations -> scores and selection."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np

from easyep import scoring, selection
from easyep.artifacts import Observations, Scores, Selection
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.source import Source


def decide_layer(
    recipe: Recipe, source: Source, observed: Sequence[Observations], layer: int
) -> tuple[int, ...]:
    """What `decide` would keep in one layer, where its choice does not depend on other layers.

    Args:
        recipe, source: as in `decide`.
        observed: one observation per domain, in the recipe's order, of this layer alone.
        layer: the layer.
    """
    scores = _scores(recipe, source, observed)
    others = dict.fromkeys(source.layout.layers, np.zeros(source.router.num_experts))
    # Experts of all layers may be protected or forbidden by name.
    whole = replace(scores, layers={**others, **scores.layers}, peaks={})
    return _selection(recipe, whole).layers[layer]


def decide(
    recipe: Recipe,
    source: Source,
    observed: Sequence[Observations],
    *,
    progress: Progress = SILENT,
) -> tuple[Scores, Selection]:
    """Scores and selection of a recipe.

    Args:
        recipe: how experts are scored and chosen.
        source: the model.
        observed: one observation per domain, in the recipe's order; none for criteria that look
            at weights.
    """
    scores = _scores(recipe, source, observed, progress)
    return scores, _selection(recipe, scores, progress)


def _scores(
    recipe: Recipe,
    source: Source,
    observed: Sequence[Observations],
    progress: Progress = SILENT,
) -> Scores:
    return scoring.score(
        observed,
        recipe.criterion,
        model=source,
        weights=recipe.weights if observed else None,
        mix=recipe.mix,
        tokens=recipe.tokens,
        seed=recipe.seed,
        mtp=recipe.mtp,
        progress=progress,
    )


def _selection(recipe: Recipe, scores: Scores, progress: Progress = SILENT) -> Selection:
    return selection.select(
        scores,
        recipe.keep,
        groups=recipe.groups,
        align=recipe.align,
        protect=recipe.protect,
        forbid=recipe.forbid,
        progress=progress,
    )


def facts(
    recipe: Recipe, scores: Scores, chosen: Selection, observed: Sequence[Observations]
) -> dict[str, Any]:
    """What a manifest tells of the choice besides the selection itself."""
    return {
        "recipe": recipe.to_json(),
        "observations": [dict(origin) for origin in scores.observations],
        "retained_share": selection.retained_share(scores, chosen),
        "unreached": {
            one.domain: {layer: len(ids) for layer, ids in one.unreached().items() if ids}
            for one in observed
        },
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
    }
