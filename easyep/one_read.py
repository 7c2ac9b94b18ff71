"""Pruning in one pass: what a layer keeps is copied as soon as streaming has finished the layer.

Its bytes are still in the page cache then, so the checkpoint is read from the disk once. The
result is the same, file for file, as of observing first and rewriting afterwards.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from easyep import calibration, planning
from easyep.artifacts import LayerSums, Observations, RoutedTokens
from easyep.checkpoint import rewriting
from easyep.checkpoint.output_units import uneven
from easyep.checkpoint.rewriting import Rewriting
from easyep.criteria import needs_record, scores_pairs
from easyep.deciding import decide_layer
from easyep.launcher import rank
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.runners.choosing import choose_runner
from easyep.selection import SUPER_EXPERTS
from easyep.source import Source

NOT_STREAMED = "the model is not streamed"


def hindrance(recipe: Recipe, source: Source) -> str:
    """Why layers cannot be written while others are still to be run; empty where they can."""
    if not needs_record(recipe.criterion) or not choose_runner(recipe, source).by_layers:
        return NOT_STREAMED
    if scores_pairs(recipe.criterion):
        return f"the criterion {recipe.criterion!r} takes long to choose experts"
    if recipe.mix == "max-min" and len(calibration.domains(recipe, source)) > 1:
        return "the mix max-min takes long to choose experts"
    if SUPER_EXPERTS in recipe.protect:
        return "super experts are known when all layers have been run"
    odd = uneven(source.layout)
    if odd is not None:
        return f"the experts of layer {odd} are not all stored alike"
    return ""


@contextmanager
def begun(
    recipe: Recipe,
    source: Source,
    output: str | os.PathLike[str],
    *,
    progress: Progress = SILENT,
) -> Iterator["LayerPruner | None"]:
    """A rewrite that follows the streaming run, None where there can be none.

    Of several processes only the first writes: it copies what it has not read itself from its own
    files, while the others wait.

    Args:
        recipe, source: what is pruned, and how.
        output: the new directory; it is there at the end if the rewrite was finished.
        progress: told why there is none, where the model is streamed.

    Raises:
        OutputError: the output cannot be written.
    """
    if not rank().first:
        yield None
        return
    if why := hindrance(recipe, source):
        if why != NOT_STREAMED:
            progress.say(f"the checkpoint is read again when it is rewritten: {why}")
        yield None
        return
    chosen = planning.stand_in(recipe, source, source.scored_layers(recipe.mtp))
    work = rewriting.plan(
        source.checkpoint,
        chosen,
        mtp=source.mtp_mode(recipe.mtp, chosen),
        max_shard_size=recipe.max_shard_size,
        layout=source.layout,
    )
    decided_by = json.dumps(recipe.to_json(), sort_keys=True)
    with rewriting.begun(work, output, decided_by=decided_by, progress=progress) as rewrite:
        yield LayerPruner(recipe, source, rewrite)


class LayerPruner:
    """Chooses the experts of each finished layer, and has them written.

    Attributes:
        rewriting: what they are written by, to be finished by the caller.
    """

    def __init__(self, recipe: Recipe, source: Source, rewrite: Rewriting) -> None:
        self.rewriting = rewrite
        self._recipe = recipe
        self._source = source
        self._runner = choose_runner(recipe, source).name
        self._domains = [domain.name for domain in calibration.domains(recipe, source)]

    def finished(self, layer: int, kept: Sequence[RoutedTokens | LayerSums]) -> None:
        """Take what is kept of a finished layer, one part for each domain (`LayerFinished`).

        Raises:
            EasyEPError: the layer cannot be scored, or not be written.
        """
        observed = [
            self._observations(layer, domain, part)
            for domain, part in zip(self._domains, kept, strict=True)
        ]
        chosen = decide_layer(self._recipe, self._source, observed, layer)
        self.rewriting.layer(layer, chosen)

    def _observations(
        self, layer: int, domain: str, part: RoutedTokens | LayerSums
    ) -> Observations:
        model, router = self._source.identity, self._source.router
        if isinstance(part, LayerSums):
            return Observations.summed(
                {layer: part},
                model=model,
                router=router,
                domain=domain,
                demos=(),
                runner=self._runner,
                dtype="",
            )
        return Observations(model, router, domain, (), self._runner, "", {layer: part})
