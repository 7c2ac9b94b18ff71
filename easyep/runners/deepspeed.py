"""The model divided over processes by DeepSpeed's ZeRO-3, which gathers one layer at a time."""

from collections import Counter
from typing import TYPE_CHECKING

from easyep.deepspeed_settings import read_deepspeed_settings
from easyep.placing import usable_device
from easyep.recipe import Recipe
from easyep.runners import Share
from easyep.runners.whole import Whole
from easyep.source import Source
from easyep.stream_probe import Forecast
from easyep.weighing import computed_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class DeepSpeed(Whole):
    """Each process holds a part of every weight; rank 0 reads them for all."""

    name = "deepspeed"
    how = ", divided over the processes"
    each = "holds its share and one whole layer, {held}; rank 0 reads {read} for all"
    observes_mtp = False

    @classmethod
    def check(cls, recipe: Recipe, source: Source) -> None:
        """Raises ArtifactError: the recipe's settings for DeepSpeed are not those of such a run."""
        read_deepspeed_settings(recipe.deepspeed_config)

    def load(self) -> "PreTrainedModel":
        from easyep.observation.partitioned import partition
        from easyep.observation.weights.partial import PartialModel

        config = read_deepspeed_settings(self.recipe.deepspeed_config)
        empty = PartialModel(
            self.source.checkpoint,
            self.source.layout,
            dtype=self.recipe.dtype,
            trust_remote_code=self.recipe.trust_remote_code,
        )
        with self.group.computing():
            return partition(empty, usable_device(self.recipe.device), self.group, config)

    def share(self, processes: int, forecast: Forecast | None) -> Share:
        layout, weights = self.source.layout, self.source.checkpoint.tensors
        inside: Counter[int | None] = Counter()  # bytes by layer, as computed with
        for name, tensor in weights.items():
            if not layout.is_mtp(name):
                inside[layout.layer_of.get(name)] += computed_bytes([tensor], self.recipe.dtype)
        # A layer is whole in every process for a moment, when it is loaded and when it computes.
        holds = -(-inside.total() // processes) + max(inside.values())
        read = sum(tensor.nbytes for name, tensor in weights.items() if not layout.is_mtp(name))
        return Share(processes, read, holds)
