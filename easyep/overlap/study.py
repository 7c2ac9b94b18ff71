"""The studies: samples of one set, data sets of one domain, domains."""

import itertools
from collections.abc import Iterator, Sequence
from statistics import mean, pstdev

from easyep import choices
from easyep.architectures.router import budget
from easyep.artifacts import Observations
from easyep.artifacts.observations import Observed
from easyep.criteria import CRITERIA, RecordCriterion
from easyep.errors import ArtifactError
from easyep.overlap.findings import BetweenSets, ByNumber, ObservedSet, Stability
from easyep.overlap.sampling import Chooser, Kept, samples_of
from easyep.progress import SILENT, Progress
from easyep.scoring import TOKENS, Tokens, chosen_tokens
from easyep.selection import keep_count

DEMONSTRATIONS = (1, 2, 5, 10, 25)
SAMPLES = 10


def stability(
    observations: Observed | Sequence[Observed],
    criterion: str = "easy-ep",
    *,
    domains: Sequence[str] | None = None,
    keep: Sequence[float] = (0.5,),
    groups: str = "balanced",
    demonstrations: Sequence[int] | None = None,
    samples: int = SAMPLES,
    tokens: Tokens = "all",
    seed: int = 0,
    progress: Progress = SILENT,
) -> Stability:
    """Study how stable the choice of experts is; nothing is run but the scoring.

    Args:
        observations: calibration runs of one model, each as it is or the directory that it was
            saved in.
        criterion: a name of `easyep list criteria` that looks at the record.
        domains: which domain each observation counts for; by default the one it was made from.
        keep: budgets as in `select`.
        groups, tokens: as in `select` and `score`.
        demonstrations: sizes of the samples, by default 1, 2, 5, 10 and 25 as far as there are so
            many; the whole set is always one.
        samples: how many samples of each size are drawn, without replacement.
        seed: for the samples.

    Raises:
        ArtifactError: the observations are of several models or hold no token, the criterion does
            not look at them, or a number is none, or more than any set has.
        SelectionError: the router could not work with that many experts.
    """
    seen = Observations.all_of(observations)
    method = _checked(seen, criterion)
    choices.one_of(TOKENS)("tokens", tokens)
    sizes = _sizes(demonstrations, seen)
    choices.count("samples", samples)
    choices.seed("seed", seed)
    if domains is not None:
        domains = choices.several(choices.text)("domains", domains)
    if domains is not None and len(domains) != len(seen):
        raise ArtifactError(f"{len(domains)} domains were named for {len(seen)} observations")
    counts = [
        keep_count(each, seen[0].router, groups=groups)
        for each in choices.several(budget)("keep", keep)
    ]
    sets = _named(seen, domains)
    chooser = Chooser(criterion, method, counts, groups, seed)
    whole: list[dict[int, Kept]] = []
    by_number: list[ByNumber] = []
    total = sum(len(one.layers) for one in seen)
    with progress.task(f"Resampling by {criterion}", total, "layers") as task:
        for number, (one, named) in enumerate(zip(seen, sets, strict=True)):
            drawn = list(samples_of(len(one.demos), sizes, samples, [seed, number]))
            found: list[list[tuple[Kept, Kept | None]]] = [[] for _ in drawn]
            kept: dict[int, Kept] = {}
            for layer in sorted(one.layers):
                parts = chooser.parts(
                    chosen_tokens(one.layers[layer], tokens, one.domain), layer, one
                )
                kept[layer] = parts.kept(range(len(one.demos)))
                for place, (first, second) in enumerate(drawn):
                    other = parts.kept(second) if second else None
                    found[place].append((parts.kept(first), other))
                task.advance()
            whole.append(kept)
            by_number += _by_number(named, counts, drawn, found, kept)
    return Stability(
        criterion=criterion,
        groups=groups,
        tokens=tokens,
        seed=seed,
        num_experts=seen[0].router.num_experts,
        keep=tuple(counts),
        sets=sets,
        by_number=tuple(by_number),
        between=tuple(_between(sets, counts, whole)),
    )


def _sizes(wanted: Sequence[int] | None, seen: Sequence[Observations]) -> tuple[int, ...]:
    """How many demonstrations samples have."""
    if wanted is None:
        return DEMONSTRATIONS
    sizes = choices.several(choices.count)("demonstrations", wanted)
    most = max(len(one.demos) for one in seen)
    if any(size > most for size in sizes):
        raise ArtifactError(
            f"no sample can have {max(sizes)} demonstrations: the largest set has {most}"
        )
    return sizes


def _by_number(
    named: ObservedSet,
    counts: Sequence[int],
    drawn: Sequence[tuple[list[int], list[int]]],
    found: Sequence[Sequence[tuple[Kept, Kept | None]]],
    whole: dict[int, Kept],
) -> Iterator[ByNumber]:
    """Overlaps of the samples of each size with the whole set, and with each other."""
    layers = list(whole.values())
    for place, keep in enumerate(counts):
        by_size: dict[int, list[tuple[float, float | None]]] = {}
        for (first, _), kept in zip(drawn, found, strict=True):
            with_all = mean(
                len(mine[place] & all_[place]) / keep
                for (mine, _), all_ in zip(kept, layers, strict=True)
            )
            with_other = [
                len(mine[place] & other[place]) / keep for mine, other in kept if other is not None
            ]
            overlaps = by_size.setdefault(len(first), [])
            overlaps.append((with_all, mean(with_other) if with_other else None))
        for size, overlaps in by_size.items():
            apart = [other for _, other in overlaps if other is not None]
            yield ByNumber(
                set=named.name,
                keep=keep,
                demos=size,
                samples=len(overlaps),
                overlap=mean(one for one, _ in overlaps),
                spread=pstdev(one for one, _ in overlaps),
                disjoint=mean(apart) if apart else None,
            )
        yield ByNumber(named.name, keep, named.demos, 1, 1.0, 0.0, None)


def _between(
    sets: Sequence[ObservedSet], counts: Sequence[int], whole: Sequence[dict[int, Kept]]
) -> Iterator[BetweenSets]:
    for (one, mine), (other, theirs) in itertools.combinations(zip(sets, whole, strict=True), 2):
        for place, keep in enumerate(counts):
            overlaps = {
                layer: len(mine[layer][place] & theirs[layer][place]) / keep for layer in mine
            }
            least = min(overlaps, key=lambda layer: overlaps[layer])
            yield BetweenSets(
                sets=(one.name, other.name),
                same_domain=one.domain == other.domain,
                keep=keep,
                overlap=mean(overlaps.values()),
                least=overlaps[least],
                least_layer=least,
            )


def _checked(seen: Sequence[Observations], criterion: str) -> RecordCriterion:
    if not seen:
        raise ArtifactError("a study of stability needs at least one observation")
    for one in seen[1:]:
        if not one.model.same_model(seen[0].model):
            raise ArtifactError(
                f"the observations are of several models: {seen[0].model.name}, {one.model.name}"
            )
        if one.layers.keys() != seen[0].layers.keys():
            raise ArtifactError("the observations do not have the same layers (see --mtp)")
    method = CRITERIA[criterion]
    if not isinstance(method, RecordCriterion):
        raise ArtifactError(
            f"the criterion {criterion!r} does not look at what was observed, so its choice does "
            "not depend on it"
        )
    return method


def _named(seen: Sequence[Observations], domains: Sequence[str] | None) -> tuple[ObservedSet, ...]:
    """The sets with names of their own: those of one name are numbered."""
    names = [one.domain for one in seen]
    labels = domains if domains is not None else names
    unique = [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    return tuple(
        ObservedSet(name, label, len(one.demos), one.num_tokens)
        for name, label, one in zip(unique, labels, seen, strict=True)
    )
