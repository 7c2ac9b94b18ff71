"""Recipe + source -> one observation per domain; what the work directory has is not redone."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyep import demonstrations, loading
from easyep.artifacts import Observations, ObservedDemo, TokenSequence
from easyep.errors import ArtifactError, DemosError, ObservationError, OutputError
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        DemosError: there are none, or two of the same name.
        UnknownNameError: the model has no demonstrations of that domain.
    """
    found = []
    for text in recipe.domain:
        name, weight = demonstrations.parse_weighted(text)
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
    tokenizer = _Tokenizer(source, recipe.trust_remote_code)
    config = source.checkpoint.config
    limits = [recipe.max_length, config.get("max_position_embeddings")]
    max_length = min((limit for limit in limits if limit), default=None)
    vocabulary = config.get("vocab_size", 1 << 62)
    for domain in domains(recipe, source):
        sequences = []
        for demo in demonstrations.read(domain.path):
            needs_text = "input_ids" not in demo.content
            try:
                sequence = demonstrations.render(
                    demo, tokenizer.get() if needs_text else None, max_length, recipe.style
                )
            except DemosError as error:
                raise DemosError(f"{demo.origin}: {error}") from None
            if not len(sequence):
                raise DemosError(f"{demo.origin}: the demonstration has no tokens")
            if sequence.input_ids.max() >= vocabulary:
                raise DemosError(
                    f"{demo.origin}: a token id is outside the model's vocabulary of {vocabulary}"
                )
            sequences.append(sequence)
        if recipe.tokens == "response" and not any(s.is_response.any() for s in sequences):
            raise DemosError(f"{domain.path} has no response tokens; --tokens all uses prompts too")
        yield (
            domain,
            demonstrations.choose(
                sequences, recipe.n_demos, order=recipe.demo_order, seed=recipe.seed
            ),
        )


def calibrate(
    recipe: Recipe, source: Source, *, work_dir: Path | None = None, progress: Progress = SILENT
) -> list[Observations]:
    """Observe every domain of a recipe, in its order.

    The model is loaded once, and only if some domain is not in `work_dir` yet.

    Raises:
        EasyEPError: a subclass says what is wrong with the demonstrations or the model.
    """
    shown = list(demonstrations_of(recipe, source))
    model: PreTrainedModel | None = None
    observed = []
    for domain, sequences in shown:
        saved = None
        if work_dir is not None:
            key = _key(recipe, source, sequences)
            saved = work_dir / "observations" / f"{domain.name}-{key}"
            found = _whole(saved)
            if found is not None:
                observed.append(found)
                continue
        if model is None:
            model = loading.load_model(
                source.model.path,
                dtype=recipe.dtype,
                device=recipe.device,
                trust_remote_code=recipe.trust_remote_code,
            )
        observations = _observe(recipe, source, model, domain.name, sequences, progress)
        if saved is not None:
            _save(observations, saved)
        observed.append(observations)
    return observed


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


def _save(observations: Observations, saved: Path) -> None:
    """Save, unless another run on the same work directory has been faster."""
    try:
        observations.save(saved)
    except OutputError:
        if _whole(saved) is None:
            raise


def _whole(saved: Path) -> Observations | None:
    """Saved observations if they are there and can be read; what is damaged is removed."""
    if not saved.exists():
        return None
    try:
        found = Observations.load(saved)
        for layer in found.layers:
            _ = found.layers[layer]  # reads it
        return found
    except ArtifactError:
        shutil.rmtree(saved)
        return None


def _observe(
    recipe: Recipe,
    source: Source,
    model: "PreTrainedModel",
    domain: str,
    sequences: list[TokenSequence],
    progress: Progress,
) -> Observations:
    from easyep.observation.in_memory import load_mtp, observe_in_memory

    mtp_layers = source.layout.mtp_layers if source.mtp_mode(recipe.mtp) == "score" else ()
    layers = observe_in_memory(
        model,
        sequences,
        mtp=load_mtp(model) if mtp_layers else None,
        stream=source.architecture.observation.stream,
        batch_size=recipe.batch_size,
        title=f"Observing {domain}",
        progress=progress,
    )
    expected = sorted([*source.layout.moe_layers, *mtp_layers])
    if sorted(layers) != expected:
        raise ObservationError(
            f"the model ran MoE layers {sorted(layers)}, its checkpoint has {expected}"
        )
    return Observations(
        model=source.identity,
        router=source.router,
        domain=domain,
        demos=tuple(
            ObservedDemo(s.sha256, len(s), int(s.is_response.sum()), s.cut) for s in sequences
        ),
        runner="memory",
        dtype=str(model.dtype).removeprefix("torch."),
        layers=layers,
    )


def _key(recipe: Recipe, source: Source, sequences: Sequence[TokenSequence]) -> str:
    """Tells apart observations that were made from different things."""
    made_from = {
        "model": {**source.identity.to_json(), "name": ""},
        "demos": [sequence.sha256 for sequence in sequences],
        "dtype": recipe.dtype,
        "device": recipe.device,
        "mtp": source.mtp_mode(recipe.mtp) == "score",
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
