"""Recipe + source -> one observation per domain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyep import demonstrations, loading
from easyep.architectures.spec import stated_size
from easyep.artifacts import Observations, TokenSequence
from easyep.distributed import join
from easyep.errors import DemosError
from easyep.observing import help_observe, observe_runs
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.runners import runner_class
from easyep.runners.choosing import choose_runner
from easyep.source import Source
from easyep.streams import LayerFinished


@dataclass(frozen=True)
class Domain:
    """One thing that the model is to be shown.

    Attributes:
        name: of the domain, or of the file without its ending.
        weight: its share when several are mixed.
        path: the JSONL file.
    """

    name: str
    weight: float
    path: Path


def domains(recipe: Recipe, source: Source) -> list[Domain]:
    """The domains and files of a recipe.

    Raises:
        DemosError: there are none, or two of the same name, or a weight is no positive number.
        UnknownNameError: the model has no demonstrations of that domain.
    """
    found = []
    for text in recipe.domain:
        name, weight = demonstrations.parse_domain(text)
        path = demonstrations.domain_file(name, source.model.calibration)
        found.append(Domain(name, weight, path))
    for text in recipe.demos:
        file, weight = demonstrations.parse_weighted(text)
        found.append(Domain(Path(file).stem, weight, Path(file)))
    if not found:
        raise DemosError("give at least one domain or file of demonstrations")
    names = [domain.name for domain in found]
    if len(set(names)) < len(names):
        raise DemosError(f"domains and demonstration files need different names, not {names}")
    return found


def demonstrations_of(
    recipe: Recipe, source: Source
) -> Iterator[tuple[Domain, list[TokenSequence]]]:
    """Each domain of a recipe with its chosen demonstrations, as the model reads them.

    Raises:
        DemosError: one cannot be read or rendered; the message says which.
    """
    for domain, sequences in rendered(recipe, source):
        if recipe.tokens == "response" and not any(s.is_response.any() for s in sequences):
            raise DemosError(f"{domain.path} has no response tokens; --tokens all uses prompts too")
        yield (
            domain,
            demonstrations.choose(
                sequences,
                recipe.n_demos,
                order=recipe.demo_order,
                seed=recipe.seed,
                tokens=recipe.tokens_per_domain,
            ),
        )


def rendered(recipe: Recipe, source: Source) -> Iterator[tuple[Domain, list[TokenSequence]]]:
    """Each domain of a recipe with all of its demonstrations, as the model reads them.

    Raises:
        DemosError: one cannot be read or rendered; the message says which.
    """
    tokenizer = _Tokenizer(source, recipe.trust_remote_code)
    config = source.checkpoint.config
    limits = [recipe.max_length, stated_size(config, "max_position_embeddings")]
    max_length = min((limit for limit in limits if limit), default=None)
    vocabulary = stated_size(config, "vocab_size") or 1 << 62
    for domain in domains(recipe, source):
        sequences = []
        for demo in demonstrations.read(domain.path):
            needs_text = "input_ids" not in demo.content
            sequence = demonstrations.render(
                demo, tokenizer.get() if needs_text else None, max_length, recipe.style
            )
            if not len(sequence):
                raise DemosError(f"{demo.origin}: the demonstration has no tokens")
            if sequence.input_ids.max() >= vocabulary:
                raise DemosError(
                    f"{demo.origin}: a token id is outside the model's vocabulary of {vocabulary}"
                )
            sequences.append(sequence)
        yield domain, sequences


def calibrate(
    recipe: Recipe,
    source: Source,
    *,
    criteria: Sequence[str] = (),
    work_dir: Path | None = None,
    output: Path | None = None,
    on_layer_finished: LayerFinished | None = None,
    progress: Progress = SILENT,
) -> list[Observations]:
    """Observe every domain of a recipe, in its order.

    The model is loaded once, and only if some domain is not saved yet; where it is streamed, its
    files are read once for all domains. Under a launcher of several processes each has its share,
    and the first has the result.

    Args:
        recipe: what to observe, and how.
        source: the model.
        criteria: those that the observations must be good for where their full record is too
            large to be kept; none given means every one that sums are enough for.
        work_dir: where observations are saved, and looked for first.
        output: instead of that, the directory that the only domain is saved as.
        on_layer_finished: is told of each layer that streaming finishes, with what is kept of it
            of each domain, if all domains are streamed now (`streams.LayerFinished`).

    Raises:
        EasyEPError: a subclass says what is wrong with the demonstrations or the model.
        NotFirstRankError: this process is not the first, and its share is done.
    """
    group = join(recipe.peer_timeout)
    shown = list(demonstrations_of(recipe, source))
    kind = runner_class(group.agree(choose_runner(recipe, source).name))
    runner = kind(recipe, source, group)
    runs = [runner.run(domain.name, sequences, criteria) for domain, sequences in shown]
    if not group.here.first:
        help_observe(runs, runner)
        group.leave_the_rest_to_the_first()
    return observe_runs(
        runs,
        runner,
        work_dir=work_dir,
        output=output,
        on_layer_finished=on_layer_finished,
        progress=progress,
    )


class _Tokenizer:
    """The model's tokenizer, loaded when it is first needed."""

    def __init__(self, source: Source, trust_remote_code: bool) -> None:
        self._source = source
        self._trust = trust_remote_code
        self._loaded: Any = None

    def get(self) -> Any:
        if self._loaded is None:
            self._loaded = loading.load_tokenizer(
                self._source.model.path, trust_remote_code=self._trust
            )
        return self._loaded
