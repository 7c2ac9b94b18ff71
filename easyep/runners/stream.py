"""The model layer by layer from its files, with all demonstrations of all domains together."""

from collections.abc import Sequence
from pathlib import Path

from easyep.progress import SILENT, Progress
from easyep.records import FullStore, SumStore
from easyep.runners import Runner, Share
from easyep.runs import Run
from easyep.stream_plan import check_device, plan_stream, room_beside
from easyep.stream_probe import Forecast, forecast, probe
from easyep.streams import LayerFinished, stream


class Stream(Runner):
    """Each weight is read once; memory holds a layer without its experts, and some of those."""

    name = "stream"
    how = ", streamed layer by layer instead"
    each = "reads {read}, holds {held}, and runs its share of each layer's experts"
    shared = "each layer's experts"
    by_layers = True

    def observe(
        self,
        runs: Sequence[Run],
        stores: Sequence[FullStore | SumStore],
        state: Path | None,
        *,
        on_layer_finished: LayerFinished | None = None,
        progress: Progress = SILENT,
    ) -> str:
        return stream(
            runs,
            stores,
            state,
            group=self.group,
            on_layer_finished=on_layer_finished,
            progress=progress,
        )

    def help(self, runs: Sequence[Run]) -> None:
        stream(runs, [], None, group=self.group)

    def forecast(self, runs: Sequence[Run]) -> Forecast | None:
        """It measures how fast weights are read, dequantised and multiplied here.

        Raises:
            EasyEPError: the device has too little memory.
        """
        measured = probe(runs[0])
        plan = plan_stream(runs, room_beside(self.recipe))
        check_device(plan, self.recipe)
        return forecast(runs, plan, measured, self.group.here)

    def share(self, processes: int, forecast: Forecast | None) -> Share:
        assert forecast is not None, "its own forecast has the plan"
        plan = forecast.plan
        return Share(processes, -(-plan.to_read // processes), plan.memory)
