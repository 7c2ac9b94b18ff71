"""Diffusion language models: how they are observed, and what cannot be done with them."""

from easyep.errors import EvaluationError, UnsupportedModelError
from easyep.recipe import Recipe
from easyep.source import Source

RATIOS = (0.25, 0.5, 0.75)


def mask_ratios(recipe: Recipe, source: Source) -> tuple[float, ...]:
    """The shares of a recipe, or the usual ones; empty for a model that is no diffusion model.

    Raises:
        UnsupportedModelError: shares are asked for where nothing is hidden.
    """
    if source.architecture.observation.diffusion is None:
        if recipe.mask_ratio:
            raise UnsupportedModelError(
                f"{source.architecture.name} models write one token after the other and hide none: "
                "leave --mask-ratio out (it is for LLaDA-MoE, LLaDA2 and DiffusionGemma)"
            )
        return ()
    return recipe.mask_ratio or RATIOS


def check_predicts(source: Source) -> None:
    """Check that a model says how likely each next token is.

    Raises:
        EvaluationError: it is a diffusion model.
    """
    if source.architecture.observation.diffusion is not None:
        raise EvaluationError(
            f"{source.model.name} is a diffusion model: it fills in hidden tokens, and has no "
            "probabilities of the next one that could be compared"
        )


def recorded_tokens(tokens: int, response: int, source: Source, ratios: tuple[float, ...]) -> int:
    """About how many tokens a layer's record holds of so many, `response` of them of responses."""
    kind = source.architecture.observation.diffusion
    if kind is None:
        return tokens
    if kind == "full":
        return len(ratios) * tokens
    in_work = len(ratios) * (response or tokens)
    return in_work + (tokens if kind == "canvas" else len(ratios) * tokens)
