"""RoutedTokens, or weights, x criterion -> Scores."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from easyep import choices
from easyep.artifacts import LayerSums, Observations, RoutedTokens, Scores
from easyep.artifacts.layer_sums import COUNTED, PEAKS
from easyep.artifacts.observations import Observed
from easyep.checkpoint.copying import Sources
from easyep.checkpoint.layer_weights import StoredWeights
from easyep.criteria import (
    CRITERIA,
    Layer,
    LayerWeights,
    RecordCriterion,
    RoutedCriterion,
    WeightCriterion,
)
from easyep.errors import ArtifactError, EasyEPError
from easyep.mixing import mix as mixed
from easyep.progress import SILENT, Progress
from easyep.source import Source

Tokens = Literal["all", "response"]
TOKENS: tuple[Tokens, ...] = ("all", "response")

Float64 = npt.NDArray[np.float64]


def score(
    observations: Observed | Sequence[Observed] = (),
    criterion: str = "easy-ep",
    *,
    model: Source | str | os.PathLike[str] | None = None,
    weights: Sequence[float] | None = None,
    mix: str = "mean",
    tokens: Tokens = "all",
    seed: int = 0,
    mtp: str = "auto",
    progress: Progress = SILENT,
) -> Scores:
    """Score every routed expert by what was recorded, or by its weights.

    Args:
        observations: one calibration run, or several (of one model) to be mixed as
            `easyep.mixing.mix` says; each as it is, or the directory that it was saved in.
            Criteria that look at weights only need none.
        criterion: a name of `easyep list criteria`.
        model: the model that was observed; needed by criteria that look at weights.
        weights: the weight of each observation; all the same by default.
        mix: ``"mean"`` or ``"max-min"``.
        tokens: ``"all"``, or ``"response"`` for the tokens of responses only.
        seed: for criteria that draw random numbers.
        mtp: without observations, whether multi-token-prediction layers are scored, as in
            `Recipe`.

    Raises:
        UnknownNameError: there is no such criterion.
        ArtifactError: the observations cannot be read or mixed, they or the model are missing, no
            token is left, or the criterion gave something else than one number per expert.
        EasyEPError: the model cannot be read; a subclass says why.
    """
    tokens = choices.one_of(TOKENS)("tokens", tokens)  # type: ignore[assignment]
    method = CRITERIA[choices.text("criterion", criterion)]
    seed = choices.seed("seed", seed)
    seen = Observations.all_of(observations)
    source = model if model is None or isinstance(model, Source) else Source.open(model)
    _check_model(seen, source)
    if isinstance(method, WeightCriterion):
        return _by_weights(criterion, method, seen, source, tokens, seed, mtp, progress)
    if not seen:
        raise ArtifactError(
            f"the criterion {criterion!r} looks at what the model did: it needs observations"
        )
    scores = [_by_record(criterion, method, one, tokens, seed, progress) for one in seen]
    return mixed(scores, weights if weights is not None else [1.0] * len(scores), mix)


def _by_record(
    name: str,
    method: RecordCriterion,
    observations: Observations,
    tokens: Tokens,
    seed: int,
    progress: Progress,
) -> Scores:
    num_experts = observations.router.num_experts
    layers: dict[int, Float64] = {}
    pairs: dict[int, Float64] = {}
    peaks: dict[int, Float64] = {}
    counted = 0
    with progress.task(f"Scoring by {name}", len(observations.layers), "layers") as task:
        for index in sorted(observations.layers):
            layer = Layer(index, num_experts, seed)
            if observations.sums is not None:
                summed = observations.sums[index]
                number = int(summed.of(COUNTED, tokens)[0])
                found, peaks[index] = _from_sums(name, method, summed, tokens, layer)
            else:
                chosen = chosen_tokens(observations.layers[index], tokens, observations.domain)
                number = len(chosen)
                found, peaks[index] = _from_record(name, method, chosen, layer)
            counted = max(counted, number)
            if found.ndim == 2:
                pairs[index], found = found, found.diagonal().copy()
            layers[index] = found
            task.advance()
    _some(counted, tokens, observations.domain)
    return Scores(
        criterion=name,
        model=observations.model,
        router=observations.router,
        observations=(_origin(observations, tokens, counted),),
        layers=layers,
        pairs=pairs,
        peaks=peaks,
    )


def _from_record(
    name: str, method: RecordCriterion, chosen: RoutedTokens, layer: Layer
) -> tuple[Float64, Float64]:
    """What the criterion gives, and the largest output norm of each expert."""
    found = _asked(name, layer, lambda: method.score(chosen, layer))
    return found, _peaks(chosen, layer.num_experts)


def _from_sums(
    name: str, method: RecordCriterion, summed: LayerSums, tokens: Tokens, layer: Layer
) -> tuple[Float64, Float64]:
    """As `_from_record`, where the record was not kept."""
    values = summed.of(name, tokens)
    assert isinstance(method, RoutedCriterion)  # `sums` takes no other
    return _asked(name, layer, lambda: method.from_sums(values)), summed.of(PEAKS, tokens)


def _asked(name: str, layer: Layer, ask: Callable[[], Any]) -> Float64:
    """What a criterion answers; ArtifactError where it fails or gives something not finite."""
    try:
        found = np.asarray(ask(), dtype=np.float64)
    except (EasyEPError, MemoryError):
        raise
    except Exception as error:  # whatever a criterion of another's raises
        raise ArtifactError(f"the criterion {name!r} failed: {_told(error)}") from error
    if not np.isfinite(found).all():
        *_, expert = np.argwhere(~np.isfinite(np.atleast_1d(found)))[0]
        raise ArtifactError(
            f"the criterion {name!r} gave no finite number for expert {expert} of layer "
            f"{layer.index}"
        )
    return found


def _told(error: Exception) -> str:
    """A ValueError says what is wrong; of other errors the kind says more than the text."""
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def summable(name: str) -> bool:
    """Whether sums over the tokens are enough for a criterion.

    Raises:
        UnknownNameError: there is no such criterion.
    """
    return isinstance(CRITERIA[name], RoutedCriterion)


def sums(record: RoutedTokens, index: int, num_experts: int, criteria: Sequence[str]) -> LayerSums:
    """What some criteria need of a part of a layer's record; the sums of parts add up.

    Raises:
        ArtifactError: sums are not enough for a criterion, or it fails.
    """
    layer, arrays = Layer(index, num_experts), {}
    for kind in TOKENS:
        part = record.where(record.is_response) if kind == "response" else record
        arrays[f"{kind}/{COUNTED}"] = np.array([len(part)], dtype=np.float64)
        arrays[f"{kind}/{PEAKS}"] = _peaks(part, num_experts)
        for name in criteria:
            method = CRITERIA[name]
            if not isinstance(method, RoutedCriterion):
                raise ArtifactError(f"the criterion {name!r} needs the full record")
            arrays[f"{kind}/{name}"] = _asked(name, layer, partial(method.sums, part, layer))
    return LayerSums(arrays)


def _peaks(tokens: RoutedTokens, num_experts: int) -> Float64:
    """The largest output norm that each expert reached, float64 [E]."""
    # In the norms' own type: numpy compares in bulk only where the types are the same.
    peaks = np.zeros(num_experts, dtype=tokens.output_norms.dtype)
    taken = tokens.weights != 0
    np.maximum.at(peaks, tokens.expert_ids[taken], tokens.output_norms[taken])
    return peaks.astype(np.float64)


def _by_weights(
    name: str,
    method: WeightCriterion,
    seen: Sequence[Observations],
    source: Source | None,
    tokens: Tokens,
    seed: int,
    mtp: str,
    progress: Progress,
) -> Scores:
    if seen:
        model, router, layers = seen[0].model, seen[0].router, sorted(seen[0].layers)
    elif source is not None:
        model, router = source.identity, source.router
        layers = source.scored_layers(mtp)
    else:
        raise ArtifactError(f"the criterion {name!r} needs the model (--model M)")
    scores = {}
    with ExitStack() as stack:
        task = stack.enter_context(progress.task(f"Scoring by {name}", len(layers), "layers"))
        stored: LayerWeights = _NoModel(name)
        if source is not None:
            checkpoint = source.checkpoint
            sources = stack.enter_context(Sources(checkpoint.path, checkpoint.shards.values()))
        for index in layers:
            if source is not None:
                stored = StoredWeights(source.layout.layers[index], checkpoint.config, sources)
            layer = Layer(index, router.num_experts, seed)
            scores[index] = _asked(name, layer, partial(method.score_weights, stored, layer))
            task.advance()
    origins = tuple(_origin(one, tokens, 0) for one in seen)
    return Scores(name, model, router, origins, scores)


class _NoModel:
    """The weights where no model was given."""

    def __init__(self, criterion: str) -> None:
        self._criterion = criterion

    def router(self) -> NoReturn:
        raise ArtifactError(
            f"the criterion {self._criterion!r} looks at weights: say of which model (--model M)"
        )

    def expert(self, number: int) -> Iterator[NoReturn]:
        self.router()


def _check_model(seen: Sequence[Observations], source: Source | None) -> None:
    for one in seen:
        if source is not None and not one.model.same_model(source.identity):
            raise ArtifactError(
                f"the observations of {one.domain!r} are of {one.model.name}, not of "
                f"{source.model.name}: their configs, tensors or weights differ"
            )


def chosen_tokens(record: RoutedTokens, tokens: Tokens, domain: str) -> RoutedTokens:
    """The tokens of a record that count.

    Raises:
        ArtifactError: there are none, though some token came to the layer.
    """
    chosen = record.where(record.is_response) if tokens == "response" else record
    if len(record):
        _some(len(chosen), tokens, domain)
    return chosen


def _some(count: int, tokens: Tokens, domain: str) -> None:
    if not count:
        raise ArtifactError(
            f"the observations of {domain!r} hold no {tokens} token; --tokens all uses prompts too"
        )


def _origin(observations: Observations, tokens: Tokens, counted: int) -> Mapping[str, Any]:
    return {
        "domain": observations.domain,
        "weight": 1.0,
        "tokens": tokens,
        "num_demos": len(observations.demos),
        "num_tokens": counted,
        "demos_sha256": [demo.sha256 for demo in observations.demos],
    }
