"""Which runner is taken, and what no runner or this one cannot do."""

from easyep.diffusion import mask_ratios
from easyep.errors import UnsupportedModelError
from easyep.loading import check_release
from easyep.placing import room
from easyep.recipe import Recipe
from easyep.runners import Runner, runner_class
from easyep.source import Source
from easyep.weighing import weight_bytes

# What a run takes beside the weights: activations, libraries, what loading holds twice.
SPARE = 1.25


def choose_runner(recipe: Recipe, source: Source) -> type[Runner]:
    """The runner of a recipe, or what ``"auto"`` means here: ``"memory"`` or ``"stream"``.

    Raises:
        UnsupportedModelError: only a later transformers runs this model; or it is a diffusion
            model, or has MTP layers that are to be scored, and the runner cannot do that.
        EasyEPError: as in the runner's `check`, or `mask_ratios`.
    """
    check_release(source.checkpoint.config, recipe.trust_remote_code)
    hidden = mask_ratios(recipe, source)
    name = recipe.runner
    if name == "auto":
        needed = SPARE * weight_bytes(source.checkpoint, recipe.dtype)
        fits = hidden or needed <= room(recipe.device, recipe.max_memory)
        name = "memory" if fits else "stream"
    chosen = runner_class(name)
    if hidden and not chosen.observes_diffusion:
        raise UnsupportedModelError(
            f"diffusion models are observed from memory, not with --runner {name}; "
            "choose --runner memory"
        )
    chosen.check(recipe, source)
    if recipe.mtp == "score" and source.layout.mtp_layers and not chosen.observes_mtp:
        raise UnsupportedModelError(
            f"the runner {name} does not observe multi-token-prediction layers: choose --mtp "
            "follow (the choice of the last layer), --mtp drop, --runner memory or --runner stream"
        )
    return chosen
