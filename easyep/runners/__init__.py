"""Runners: where the weights live while a model is observed, one class in one file each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from easyep.artifacts import TokenSequence
from easyep.distributed import ALONE, Group
from easyep.errors import UnsupportedModelError
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.records import FullStore, SumStore
from easyep.runner_names import RUNNERS
from easyep.runs import Run
from easyep.source import Source
from easyep.stream_probe import Forecast
from easyep.streams import LayerFinished

__all__ = ["Runner", "Share", "runner_class"]


@dataclass(frozen=True)
class Share:
    """One process's part, in bytes; the largest where they differ.

    Attributes:
        processes: how many there are.
        reads: of the checkpoint. Over `deepspeed` that is rank 0's, who reads for all.
        holds: of memory: weights; where the model is streamed all that the run needs.
    """

    processes: int
    reads: int
    holds: int


class Runner(ABC):
    """One way to run a model; whichever it is, the record is the same.

    Attributes:
        name: what recipes call it.
        how: its words in a plan, behind the memory that the model takes.
        each: what each of several processes does, with the places ``{read}`` and ``{held}``.
        shared: what the processes share out.
        observes_mtp: it runs multi-token-prediction layers.
        observes_diffusion: it runs diffusion models.
        by_layers: it takes all domains through a layer before the next one.

    Args:
        recipe: how the model is to be run.
        source: the model.
        group: the processes that run it together.
    """

    name: ClassVar[str]
    how: ClassVar[str]
    each: ClassVar[str]
    shared: ClassVar[str] = "the demonstrations"
    observes_mtp: ClassVar[bool] = True
    observes_diffusion: ClassVar[bool] = False
    by_layers: ClassVar[bool] = False

    def __init__(self, recipe: Recipe, source: Source, group: Group = ALONE) -> None:
        self.recipe, self.source, self.group = recipe, source, group

    @classmethod  # noqa: B027 (most refuse nothing)
    def check(cls, recipe: Recipe, source: Source) -> None:
        """Refuse what it cannot do, before anything is loaded.

        Raises:
            EasyEPError: a subclass says what, and what to choose instead.
        """

    @abstractmethod
    def share(self, processes: int, forecast: Forecast | None) -> Share:
        """What each of so many processes reads and holds; `forecast` is the runner's own."""

    def forecast(self, runs: Sequence[Run]) -> Forecast | None:
        """How long it would take, where that can be told from a measurement of seconds."""
        return None

    @abstractmethod
    def observe(
        self,
        runs: Sequence[Run],
        stores: Sequence[FullStore | SumStore],
        state: Path | None,
        *,
        on_layer_finished: LayerFinished | None = None,
        progress: Progress = SILENT,
    ) -> str:
        """Run the demonstrations, in the first process.

        Args:
            runs: one, or where it goes `by_layers` all domains' that are run together.
            stores: take the records, one for each run, and know which they have already.
            state: a file of its own, to go on after a kill; None = nothing is remembered.
            on_layer_finished: is told of each finished layer, if it goes `by_layers`.
            progress: hears how far it is.

        Returns:
            The type that the model computed in.

        Raises:
            EasyEPError: a subclass says what could not be read, loaded or recorded.
        """

    @abstractmethod
    def help(self, runs: Sequence[Run]) -> None:
        """What the other processes do while the first does `observe`."""

    def run(
        self, domain: str, sequences: Sequence[TokenSequence], criteria: Sequence[str] = ()
    ) -> Run:
        """One domain's run, in this way."""
        shown = (domain, tuple(sequences), tuple(criteria))
        return Run(self.recipe, self.source, *shown, self.name, self.observes_mtp)


def runner_class(name: str) -> type[Runner]:
    """The runner called `name`.

    Raises:
        UnknownNameError: there is none; the message lists them.
        PluginError: its module cannot be imported.
        UnsupportedModelError: what the name leads to is no runner.
    """
    found = RUNNERS.load(name)
    if not (isinstance(found, type) and issubclass(found, Runner)):
        raise UnsupportedModelError(f"{RUNNERS[name]} is no runner: it is no kind of Runner")
    lacks = [word for word in ("name", "how", "each") if not hasattr(found, word)]
    lacks += sorted(found.__abstractmethods__)
    if lacks:
        raise UnsupportedModelError(f"{RUNNERS[name]} is no whole runner: it lacks {lacks}")
    if found.name != name:
        raise UnsupportedModelError(f"{RUNNERS[name]} calls itself {found.name!r}, not {name!r}")
    return found
