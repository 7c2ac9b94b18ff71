"""Models beside each other through the same workloads, in turns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from easyep.errors import EvaluationError, MemoryExhaustedError
from easyep.evaluation.engines import PacedSession, Session
from easyep.evaluation.throughput.results import Point
from easyep.evaluation.throughput.timing import RoundTiming
from easyep.evaluation.throughput.workload import Workload
from easyep.progress import SILENT, Progress

Turn = tuple[str, Workload]


@dataclass
class Bench:
    """Measures several models in turns, so that what a machine does besides hits all alike.

    Attributes:
        open: name of a model -> how to load it.
        vocabulary: token ids that prompts are made of.
        repeats: rounds of each point that are counted.
        warmups: rounds before, that are not.
        seed: of the prompts, which differ from round to round and are the same for all models.
        one_at_a_time: keep only one model in memory; then a turn is a whole sweep, not a round.
        progress: told of every round.
        described: what the engine said of each model when it was loaded.
    """

    open: dict[str, Callable[[], Session]]
    vocabulary: Sequence[int]
    repeats: int = 3
    warmups: int = 1
    seed: int = 0
    one_at_a_time: bool = False
    progress: Progress = SILENT
    described: dict[str, dict[str, Any]] = field(default_factory=dict)
    _sessions: dict[str, Session] = field(default_factory=dict)
    _warm: set[Turn] = field(default_factory=set)

    def measure(self, groups: Sequence[Sequence[Turn]]) -> list[Point]:
        """Measure each (model, workload); those of one group take turns.

        A model that runs out of memory is not asked for larger batches of the same lengths. Such
        a point has no rounds, but the reason.

        Args:
            groups: in the order in which they are measured, smaller batches first.

        Raises:
            EasyEPError: an engine fails otherwise.
        """
        rounds: dict[Turn, list[RoundTiming]] = {turn: [] for group in groups for turn in group}
        ended: dict[Turn, str] = {}
        memory: dict[Turn, int | None] = {}
        with self.progress.task("Measuring", len(rounds) * self.repeats, "rounds") as bar:
            for repeat, turn in self._turns(groups):
                bar.advance()
                if any(_same_but_smaller(each, turn) for each in ended):
                    continue
                try:
                    timing = self._round(turn, repeat)
                except MemoryExhaustedError as error:
                    ended[turn] = str(error)
                    rounds[turn].clear()
                    continue
                rounds[turn].append(timing)
                known = memory.get(turn)
                taken = self.session(turn[0]).peak_memory()
                memory[turn] = max(known, taken) if known and taken else taken
        return [
            Point(name, workload, tuple(rounds[name, workload]), memory.get((name, workload)))
            if (name, workload) not in ended
            else Point(name, workload, (), None, ended[name, workload])
            for group in groups
            for name, workload in group
            if rounds[name, workload] or (name, workload) in ended
        ]

    def largest_batch(self, name: str, lengths: tuple[int, int], budget: int, limit: int) -> int:
        """The most requests of these lengths whose peak memory stays within `budget` bytes.

        An engine that reserves its cache beforehand is asked; otherwise batches are run, doubled
        until one is too much, then halved in between.

        Returns:
            At most `limit`; 0 where not even one fits.

        Raises:
            EvaluationError: the engine does not tell how much memory it takes.
        """
        session = self.session(name)
        said = session.capacity(sum(lengths))
        if said is not None:
            return min(said, limit)

        def fits(batch: int) -> bool:
            try:
                self._round((name, Workload(*lengths, batch)), 0, warmups=0)
            except MemoryExhaustedError:
                return False
            taken = session.peak_memory()
            if taken is None:
                raise EvaluationError(
                    "this engine does not tell how much memory it takes, so no batch can be found "
                    "for a budget; start the server with that budget and give --batch-size"
                )
            return taken <= budget

        low, high = 0, 1
        while high <= limit and fits(high):
            low, high = high, high * 2
        high = min(high, limit + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def session(self, name: str) -> Session:
        """The model's session, loaded if it is not there."""
        if name not in self._sessions:
            if self.one_at_a_time:
                self.close()
            with self.progress.task(f"Loading {name}", 1, "models"):
                self._sessions[name] = self.open[name]()
            self.described[name] = self._sessions[name].describe()
        return self._sessions[name]

    def close(self) -> None:
        """Let all models go."""
        self._warm.clear()
        while self._sessions:
            self._sessions.popitem()[1].close()

    def _turns(self, groups: Sequence[Sequence[Turn]]) -> Iterator[tuple[int, Turn]]:
        """Every point as often as it is repeated; who is first changes each time."""
        if not self.one_at_a_time:
            for group in groups:
                for repeat in range(self.repeats):
                    for turn in group[:: -1 if repeat % 2 else 1]:
                        yield repeat, turn
            return
        names = list(self.open)
        for repeat in range(self.repeats):
            for name in names[:: -1 if repeat % 2 else 1]:
                for group in groups:
                    yield from ((repeat, turn) for turn in group if turn[0] == name)

    def _round(self, turn: Turn, repeat: int, warmups: int | None = None) -> RoundTiming:
        name, workload = turn
        session = self.session(name)
        if workload.paced and not isinstance(session, PacedSession):
            raise EvaluationError(
                "a request rate is for a running server: --backend openai --base-url URL; other "
                "engines get all requests of a round at once"
            )
        before = self.warmups if warmups is None else warmups
        if turn not in self._warm:
            for i in range(before):
                prompts = workload.prompts(self.vocabulary, self.seed - 1 - i)
                session.generate(prompts[: workload.batch_size], workload.output_len)
            if before:
                self._warm.add(turn)
        prompts = workload.prompts(self.vocabulary, self.seed + repeat)
        if isinstance(session, PacedSession) and workload.paced:
            times = workload.arrivals(self.seed + repeat)
            requests = session.serve(prompts, workload.output_len, times, workload.batch_size)
        else:
            requests = session.generate(prompts, workload.output_len)
        return RoundTiming(workload.input_len, tuple(requests), workload.paced)


def _same_but_smaller(ended: Turn, turn: Turn) -> bool:
    """Whether `ended` is the same model with the same lengths and no larger a batch."""
    (name, one), (other, two) = ended, turn
    lengths = (one.input_len, one.output_len) == (two.input_len, two.output_len)
    return name == other and lengths and one.batch_size <= two.batch_size
