"""The whole model in memory, in every process that takes part."""

from typing import TYPE_CHECKING

from easyep import loading
from easyep.runners import Share
from easyep.runners.whole import Whole
from easyep.stream_probe import Forecast
from easyep.weighing import weight_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Memory(Whole):
    """The model as transformers loads it, on one device or over several."""

    name = "memory"
    how = ", run whole"
    each = "reads {read}, holds the whole model, {held}, and runs its demonstrations"
    observes_diffusion = True

    def load(self) -> "PreTrainedModel":
        return loading.load_model(
            self.source.model.path,
            dtype=self.recipe.dtype,
            device=self.recipe.device,
            max_memory=self.recipe.max_memory,
            trust_remote_code=self.recipe.trust_remote_code,
        )

    def share(self, processes: int, forecast: Forecast | None) -> Share:
        checkpoint = self.source.checkpoint
        return Share(processes, checkpoint.nbytes, weight_bytes(checkpoint, self.recipe.dtype))
