"""Recipe + observations -> scores and selection."""

from collections.abc import Sequence

from easyep import scoring, selection
from easyep.artifacts import Observations, Scores, Selection
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.source import Source


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
    scores = scoring.score(
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
    chosen = selection.select(
        scores,
        recipe.keep,
        groups=recipe.groups,
        align=recipe.align,
        protect=recipe.protect,
        forbid=recipe.forbid,
        progress=progress,
    )
    return scores, chosen
