"""What inference engines can load: limits on the number of experts, checked before a write.

Limits of an engine hold for every family; what an engine says of one family stands in the family's
TOML file under ``[engines.NAME]``. Read from the sources of vLLM 0.33, SGLang 0.5.23, transformers
5.23 and llama.cpp (`LLAMA_MAX_EXPERTS`); not all of it was run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from easyep.architectures.router import Router
from easyep.architectures.tables import check_keys
from easyep.errors import SelectionError, UnsupportedModelError
from easyep.registry import Registry


@dataclass(frozen=True)
class Engine:
    """Limits that hold for every family.

    Attributes:
        name: as users call it.
        summary: what the limits are about, in words.
        max_experts: the most routed experts per layer.
        max_groups: the most groups of a group-limited router.
        tensor_parallel: whether it wants at least as many experts as tensor-parallel ranks.
        expert_parallel: what follows if expert-parallel ranks would hold different numbers of
            experts: ``"refused"``, ``"limited"`` or nothing.
        multiple: counts that are no multiple of this keep its fastest kernels out.
    """

    name: str
    summary: str
    max_experts: int | None = None
    max_groups: int | None = None
    tensor_parallel: bool = False
    expert_parallel: str = ""
    multiple: int = 1


ENGINES: Registry[Engine] = Registry("engine")
for _engine in (
    Engine("transformers", "any count that the router works with"),
    Engine(
        "vllm",
        "at most 32 groups, at least as many experts as tensor-parallel ranks",
        max_groups=32,
        tensor_parallel=True,
        expert_parallel="limited",
        multiple=4,
    ),
    Engine(
        "sglang",
        "at least as many experts as tensor-parallel ranks, the same number on every "
        "expert-parallel rank",
        tensor_parallel=True,
        expert_parallel="refused",
    ),
    Engine("llama.cpp", "at most 512 experts", max_experts=512),
):
    ENGINES.register(_engine.name, _engine)


@dataclass(frozen=True)
class EngineNotes:
    """What one engine says of one family: a table ``[engines.NAME]`` of its TOML file.

    Attributes:
        counts: the only numbers of experts that it has kernels for; empty = any.
        unsupported: why it cannot load the family at all.
        note: what users should know otherwise.
    """

    counts: tuple[int, ...] = ()
    unsupported: str = ""
    note: str = ""

    @classmethod
    def from_toml(cls, name: str, table: Mapping[str, Any]) -> "EngineNotes":
        """Raises ValueError where the table is none."""
        if name not in ENGINES:
            raise ValueError(f"[engines.{name}]: engines are {', '.join(ENGINES)}")
        check_keys(table, [field.name for field in fields(cls)], f"[engines.{name}]")
        return cls(**{**table, "counts": tuple(table.get("counts", ()))})


@dataclass(frozen=True)
class Serving:
    """How a pruned checkpoint is to be served.

    Attributes:
        engines: names of `ENGINES`.
        tensor_parallel: ranks that share each matrix.
        expert_parallel: ranks that share the experts of a layer.
    """

    engines: tuple[str, ...] = ()
    tensor_parallel: int = 1
    expert_parallel: int = 1


def check_serving(
    serving: Serving,
    notes: Mapping[str, EngineNotes],
    router: Router,
    keep: int,
    groups: str,
    align: int = 1,
) -> list[str]:
    """Check that every engine of `serving` can load `keep` experts per layer.

    Args:
        serving: the engines, and over how many ranks they spread the model.
        notes: engine -> what it says of the model's family.
        router: the model's router before pruning.
        keep: experts per layer.
        groups: ``"balanced"`` or ``"flatten"``.
        align: what other counts are to be multiples of.

    Returns:
        What is allowed but should be known, one sentence each.

    Raises:
        UnknownNameError: an engine that easyep does not know.
        UnsupportedModelError: an engine cannot load the family.
        SelectionError: an engine cannot load that many experts; the message names the nearest
            counts that all of the engines can. Or ranks are given, and no engine.
    """

    def objection(count: int) -> str | None:
        found = (
            _objection(serving, name, notes, router, count, groups) for name in serving.engines
        )
        return next((each for each in found if each is not None), None)

    if not serving.engines and (serving.tensor_parallel > 1 or serving.expert_parallel > 1):
        raise SelectionError(
            "tensor and expert parallelism say how an engine spreads the model, so name the engine "
            f"too (--engine {'|'.join(ENGINES)})"
        )
    for name in serving.engines:
        ENGINES[name]  # raises for an unknown one
        if reason := notes.get(name, EngineNotes()).unsupported:
            raise UnsupportedModelError(f"{name} cannot load models of this family: {reason}")
    wrong = objection(keep)
    if wrong is not None:
        valid = [each for each in router.valid_counts(groups, align) if objection(each) is None]
        nearest = [each for each in valid if each < keep][-1:]
        nearest += [each for each in valid if each > keep][:1]
        way = " and ".join(map(str, nearest)) or "none; choose fewer ranks or another engine"
        raise SelectionError(
            f"{keep} of {router.num_experts} experts do not suit {wrong}; the nearest counts that "
            f"work: {way}"
        )
    return [each for name in serving.engines for each in _remarks(serving, name, notes, keep)]


def _objection(
    serving: Serving,
    name: str,
    notes: Mapping[str, EngineNotes],
    router: Router,
    keep: int,
    groups: str,
) -> str | None:
    engine, counts = ENGINES[name], notes.get(name, EngineNotes()).counts
    n_group = 1 if groups == "flatten" else router.n_group
    if counts and keep not in counts:
        return f"{name}, which has kernels for {', '.join(map(str, counts))} experts only"
    if engine.max_experts is not None and keep > engine.max_experts:
        return f"{name}, which loads at most {engine.max_experts}"
    if engine.max_groups is not None and n_group > engine.max_groups:
        return f"{name}, whose routers have at most {engine.max_groups} groups, not {n_group}"
    if engine.tensor_parallel and keep < serving.tensor_parallel:
        return f"{name} on {serving.tensor_parallel} tensor-parallel ranks, which need as many"
    if engine.expert_parallel == "refused" and keep % serving.expert_parallel:
        return (
            f"{name} on {serving.expert_parallel} expert-parallel ranks, which must hold the same "
            "number each"
        )
    return None


def _remarks(
    serving: Serving, name: str, notes: Mapping[str, EngineNotes], keep: int
) -> Iterator[str]:
    engine, note = ENGINES[name], notes.get(name, EngineNotes()).note
    if note:
        yield f"{name}: {note}"
    if engine.expert_parallel == "limited" and keep % serving.expert_parallel:
        yield (
            f"{name}: {keep} experts do not spread evenly over {serving.expert_parallel} "
            "expert-parallel ranks; load balancing (EPLB) and the DeepEP kernels need that"
        )
    if keep % engine.multiple:
        yield (
            f"{name}: {keep} experts are no multiple of {engine.multiple}, which some of its FP8 "
            "kernels need; others take over"
        )
