"""The order of a comparison: what is read, the first model, the second one, the numbers."""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyep import calibration, choices, loading
from easyep.architectures.spec import stated_size
from easyep.artifacts import Selection, TokenSequence
from easyep.artifacts.files import opened
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.manifest import shown_before
from easyep.comparing.answers import Answer, generate, prompt_of
from easyep.comparing.comparison import Comparison, on_domain
from easyep.comparing.predictions import Distances, counted, read_distances, write_predictions
from easyep.demonstrations import check_unweighted, choose
from easyep.diffusion import check_predicts
from easyep.errors import EvaluationError, OutputError
from easyep.masking import check_selection, load_masked
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PathLike = str | os.PathLike[str]
_ALL = "all"
ENOUGH = 5  # demonstrations of a domain that were not shown when the model was pruned


@dataclass
class _Text:
    """One domain's demonstrations, and what the models made of them."""

    domain: str
    sequences: list[TokenSequence]
    held_out: bool | None
    distances: list[Distances] = field(default_factory=list)
    answers: tuple[list[Answer], list[Answer]] = field(default_factory=lambda: ([], []))

    @property
    def prompts(self) -> list[list[int]]:
        found = (prompt_of(sequence) for sequence in self.sequences)
        return [prompt for prompt in found if prompt is not None]


def compare(
    first: PathLike,
    second: PathLike | None = None,
    *,
    domain: str | Sequence[str] = (),
    demos: PathLike | Sequence[PathLike] = (),
    selection: Selection | PathLike | None = None,
    n_demos: int = Recipe.n_demos,
    max_length: int | None = None,
    tokens: str = "response",
    style: str = Recipe.style,
    seed: int = 0,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    dtype: str = Recipe.dtype,
    device: str = Recipe.device,
    trust_remote_code: bool = False,
    progress: Progress = SILENT,
) -> Comparison:
    """Compare what two models predict on the same text, and what they answer.

    One model is in memory at a time; the first one's predictions lie in a temporary folder
    meanwhile, 4 bytes for each counted token and entry of the vocabulary.

    Args:
        first: the reference: a directory, a short name, or a repository id.
        second: what is held against it, of the same vocabulary; None with a `selection`.
        domain, demos: names of domains and files of demonstrations, as in `Recipe`. What was
            shown when a model was pruned, or one that it was made from, is left out where enough
            else is there.
        selection: instead of a second model, the first one with all other experts masked.
        n_demos: at most so many demonstrations per domain, drawn with `seed`.
        max_length, style: as in `Recipe`.
        tokens: ``"response"`` counts what a model is to say (all of a plain text), ``"all"`` also
            what it is told.
        max_new_tokens: where generated answers are cut; 0 generates none.
        batch_size: prompts at a time.
        dtype, device, trust_remote_code: as in `Recipe`.

    Raises:
        EvaluationError: the models cannot be compared.
        EasyEPError: a subclass says what is wrong with a model, text or selection.
    """
    if (second is None) == (selection is None):
        raise EvaluationError("give a second model or a selection, one of them")
    choices.seed("max_new_tokens", max_new_tokens)
    named = choices.several(choices.text)
    for each in (*named("domain", domain), *named("demos", demos)):
        check_unweighted(each)
    recipe = Recipe(
        first,  # type: ignore[arg-type]
        domain=domain,  # type: ignore[arg-type]
        demos=demos,  # type: ignore[arg-type]
        n_demos=n_demos,
        max_length=max_length,
        tokens=tokens,  # type: ignore[arg-type]
        style=style,  # type: ignore[arg-type]
        seed=seed,
        batch_size=batch_size,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    source = Source.open(first)
    check_predicts(source)
    chosen = opened(Selection, selection) if selection is not None else None
    options = {"dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
    open_second, path = _second(source, second, chosen, options)
    texts = _texts(recipe, source, path, progress)
    name = os.fspath(second) if second is not None else f"{os.fspath(first)}, masked"
    run = _Runner(source.model.path, texts, tokens, max_new_tokens, batch_size, trust_remote_code)
    with tempfile.TemporaryDirectory(prefix="easyep-compare-") as folder:
        _check_room(texts, tokens, _vocabulary(source), Path(folder))
        model = loading.load_model(source.model.path, **options)  # type: ignore[arg-type]
        run.first(model, Path(folder), f"Reading with {os.fspath(first)}", progress)
        del model
        _release()
        run.second(open_second(), Path(folder), f"Reading with {name}", progress)
    return Comparison(
        os.fspath(first),
        name,
        tuple(_together(texts)),
        {
            "models": {
                os.fspath(first): source.checkpoint.identity("").to_json(),
                name: Checkpoint.open(path).identity("").to_json() if path is not None else None,
            },
            "tokens": tokens,
            "n_demos": n_demos,
            "max_length": max_length,
            "seed": seed,
            "max_new_tokens": max_new_tokens,
            **options,
        },
    )


@dataclass
class _Runner:
    """Runs a model over all texts."""

    tokenizer_path: Path
    texts: Sequence[_Text]
    tokens: str
    max_new_tokens: int
    batch_size: int
    trust_remote_code: bool

    def first(self, model: Any, folder: Path, title: str, progress: Progress) -> None:
        with self._reading(title, progress) as task:
            for number, text in enumerate(self.texts):
                place = folder / str(number)
                place.mkdir()
                write_predictions(model, text.sequences, self.tokens, place, task)
        self._answer(model, 0, progress)

    def second(self, model: Any, folder: Path, title: str, progress: Progress) -> None:
        with self._reading(title, progress) as task:
            for number, text in enumerate(self.texts):
                place = folder / str(number)
                text.distances = read_distances(model, text.sequences, self.tokens, place, task)
        self._answer(model, 1, progress)

    def _reading(self, title: str, progress: Progress) -> Any:
        total = sum(len(sequence) for text in self.texts for sequence in text.sequences)
        return progress.task(title, total, "tokens")

    def _answer(self, model: "PreTrainedModel", which: int, progress: Progress) -> None:
        total = sum(len(text.prompts) for text in self.texts) if self.max_new_tokens else 0
        if not total:
            return
        tokenizer = loading.load_tokenizer(
            self.tokenizer_path, trust_remote_code=self.trust_remote_code
        )
        with progress.task("Answering", total, "answers") as task:
            for text in self.texts:
                text.answers[which][:] = generate(
                    model,
                    tokenizer,
                    text.prompts,
                    max_new_tokens=self.max_new_tokens,
                    batch_size=self.batch_size,
                    done=task,
                )


def _second(
    source: Source,
    second: PathLike | None,
    selection: Selection | None,
    options: Mapping[str, Any],
) -> tuple[Callable[[], "PreTrainedModel"], Path | None]:
    """What loads the second model, and where it lies."""
    if selection is not None:
        kept = selection
        check_selection(source, kept)
        return lambda: load_masked(source.model.path, kept, **options), None
    assert second is not None
    other = Source.open(second)
    check_predicts(other)
    sizes = [_vocabulary(source), _vocabulary(other)]
    if sizes[0] != sizes[1]:
        raise EvaluationError(
            f"{source.model.name} and {other.model.name} have vocabularies of {sizes[0]:,} and "
            f"{sizes[1]:,} tokens; only models of one vocabulary can be compared"
        )
    path = other.model.path
    return lambda: loading.load_model(path, **options), path


def _texts(recipe: Recipe, source: Source, pruned: Path | None, progress: Progress) -> list[_Text]:
    """Every domain's demonstrations: those that were not shown if there are enough of them."""
    told = [shown_before(path) for path in (source.model.path, pruned) if path is not None]
    shown = set[str]().union(*filter(None, told)) if any(one is not None for one in told) else None
    texts = []
    for domain, sequences in calibration.rendered(recipe, source):
        others = [each for each in sequences if each.sha256 not in (shown or ())]
        held_out = None if shown is None else len(others) >= min(ENOUGH, recipe.n_demos)
        if held_out is False:
            progress.say(
                f"{domain.name}: all but {len(others)} of {len(sequences)} demonstrations were "
                "shown when a model was pruned; they are used, and flatter it"
            )
        taken = choose(others if held_out else sequences, recipe.n_demos, seed=recipe.seed)
        taken = [each for each in taken if len(each) > 1]
        if not taken:
            raise EvaluationError(f"{domain.name}: no demonstration has a token to predict")
        texts.append(_Text(domain.name, taken, held_out))
    if len(texts) > 1 and any(text.domain == _ALL for text in texts):
        raise EvaluationError(f"{_ALL!r} stands for all domains together; rename {_ALL}.jsonl")
    return texts


def _together(texts: Sequence[_Text]) -> Any:
    for text in texts:
        yield on_domain(text.domain, text.distances, text.answers, text.held_out)
    if len(texts) > 1:
        known = {text.held_out for text in texts}
        yield on_domain(
            _ALL,
            [each for text in texts for each in text.distances],
            (
                [each for text in texts for each in text.answers[0]],
                [each for text in texts for each in text.answers[1]],
            ),
            known.pop() if len(known) == 1 else False,
        )


def _vocabulary(source: Source) -> int:
    return stated_size(source.checkpoint.config, "vocab_size") or 0


def _check_room(texts: Sequence[_Text], tokens: str, vocabulary: int, folder: Path) -> None:
    """Raises OutputError where the first model's predictions would not fit."""
    count = sum(len(counted(each, tokens)) for text in texts for each in text.sequences)
    needed, free = 4 * count * vocabulary, shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"the predictions of {count:,} tokens take {needed / 1e9:.1f} GB, and {folder.parent} "
            f"has {free / 1e9:.1f} GB; take fewer demonstrations or shorter ones (--n-demos, "
            "--max-length), or set TMPDIR to a larger disk"
        )


def _release() -> None:
    """Give the memory of what was let go back, before the next model is loaded."""
    import torch

    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.memory.empty_cache()
