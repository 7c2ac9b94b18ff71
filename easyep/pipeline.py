"""The order of the stages; each function here is a command too."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from easyep import calibration, deciding, one_read, planning
from easyep.architectures.engines import Serving, check_serving
from easyep.artifacts import Observations, Scores, Selection
from easyep.artifacts.files import opened
from easyep.atomic import check_absent, expanded
from easyep.checkpoint import rewriting, verification
from easyep.checkpoint.copied import Copied
from easyep.checkpoint.manifest import shown_before
from easyep.checkpoint.side_files import MODEL_CARD
from easyep.choices import count, optional, several, size, text
from easyep.clock import Clock
from easyep.criteria import needs_record
from easyep.demonstrations import DemoOrder, Style, check_unweighted
from easyep.errors import DemosError, VerificationError
from easyep.memory_limits import Limits, limits
from easyep.models import resolve
from easyep.places import outside_checkpoints
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.reporting.model_card import model_card
from easyep.source import Source

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Pruned:
    """What `prune` did.

    Attributes:
        path: the pruned checkpoint.
        selection: the experts that were kept.
        scores: what they were chosen by.
        observations: one per domain.
        rewritten: bytes, tensors and shards.
        verification: the checks of the output against its source, all of which hold.
        seconds: wall time by stage.
    """

    path: Path
    selection: Selection
    scores: Scores
    observations: tuple[Observations, ...]
    rewritten: rewriting.Rewritten
    verification: verification.Verification
    seconds: dict[str, float]


def prune(
    model: PathLike,
    *,
    output: PathLike,
    work_dir: PathLike | None = None,
    progress: Progress = SILENT,
    **choices: Any,
) -> Pruned:
    """The whole way: observe, score, select, rewrite, verify.

    Args:
        model: a directory, a short name, or a repository id.
        output: a directory that does not exist yet.
        work_dir: where the stages save what they have; the same call goes on from there.
        choices: the fields of `Recipe`.

    Raises:
        EasyEPError: a subclass says what is wrong; nothing is left under `output`. What was
            written may stay beside it, for the same call to go on with; the message says so.
    """
    recipe = Recipe(model=model, **choices)  # type: ignore[arg-type]
    output = text("output", output)
    work = expanded(text("work_dir", work_dir)) if work_dir is not None else None
    clock = Clock()
    source = Source.open(model)
    planned = planning.check(recipe, source, output, work)
    clock.lap("check")
    with one_read.begun(recipe, source, output, progress=progress) as early:
        observed: list[Observations] = []
        if needs_record(recipe.criterion):
            observed = calibration.calibrate(
                recipe,
                source,
                criteria=[recipe.criterion],
                work_dir=work,
                on_layer_finished=early.finished if early else None,
                progress=progress,
            )
        clock.lap("observe")
        scores, chosen = deciding.decide(recipe, source, observed, progress=progress)
        if work is not None:
            scores.save(work / "scores.json")
            chosen.save(work / "selection.json")
        clock.lap("select")
        facts = deciding.facts(recipe, scores, chosen, observed)
        checked: list[verification.Verification] = []

        def check(written: Path, copied: Mapping[str, Copied]) -> None:
            clock.lap("rewrite")
            checked.append(
                verification.verify(written, source.model.path, copied=copied, progress=progress)
            )
            if not checked[0].ok:
                problems = "; ".join(checked[0].problems)
                raise VerificationError(f"what was written is wrong and was not kept: {problems}")

        rewritten = _rewrite(
            source,
            chosen,
            output,
            mtp=recipe.mtp,
            max_shard_size=recipe.max_shard_size,
            facts=facts,
            progress=progress,
            check=check,
            early=early.rewriting if early else None,
        )
    warnings = dict.fromkeys((*planned.warnings, *rewritten.warnings))
    rewritten = replace(rewritten, warnings=tuple(warnings))
    clock.lap("verify")
    return Pruned(
        path=expanded(output),
        selection=chosen,
        scores=scores,
        observations=tuple(observed),
        rewritten=rewritten,
        verification=checked[0],
        seconds=clock.seconds,
    )


def observe(
    model: PathLike,
    *,
    domain: str | None = None,
    demos: PathLike | None = None,
    n_demos: int = Recipe.n_demos,
    tokens_per_domain: int | None = Recipe.tokens_per_domain,
    max_length: int | None = Recipe.max_length,
    demo_order: DemoOrder = Recipe.demo_order,
    style: Style = Recipe.style,
    seed: int = Recipe.seed,
    mtp: str = Recipe.mtp,
    runner: str = Recipe.runner,
    deepspeed_config: PathLike | None = Recipe.deepspeed_config,
    device: str = Recipe.device,
    dtype: str = Recipe.dtype,
    batch_size: int = Recipe.batch_size,
    max_memory: int | str | Limits | None = Recipe.max_memory,
    peer_timeout: int = Recipe.peer_timeout,
    mask_ratio: float | Sequence[float] = Recipe.mask_ratio,
    records: str = Recipe.records,
    criteria: str | Sequence[str] = (),
    trust_remote_code: bool = Recipe.trust_remote_code,
    output: PathLike | None = None,
    progress: Progress = SILENT,
) -> Observations:
    """Run the model on one domain's demonstrations and record what its routed experts did.

    Args:
        model: a directory, a short name, or a repository id.
        domain: the name of a domain (`easyep list domains`), or
        demos: a JSONL file of demonstrations.
        n_demos to records, trust_remote_code: as in `Recipe`.
        criteria: where only sums are kept, what they are for; by default every criterion that
            sums are enough for.
        output: a directory to save the observations in. A run that is cut short keeps its
            records beside it, and the same call goes on from there.

    Raises:
        EasyEPError: a subclass says what is wrong with the model or the demonstrations.
    """
    if (domain is None) == (demos is None):
        raise DemosError("give either a domain or a file of demonstrations")
    check_unweighted(text("domain or demos", demos if domain is None else domain))
    recipe = Recipe(
        model=model,  # type: ignore[arg-type]
        domain=(domain,) if domain is not None else (),
        demos=(os.fspath(demos),) if demos is not None else (),
        n_demos=n_demos,
        tokens_per_domain=tokens_per_domain,
        max_length=max_length,
        demo_order=demo_order,
        style=style,
        seed=seed,
        mtp=mtp,
        runner=runner,
        deepspeed_config=optional(text)("deepspeed_config", deepspeed_config),
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        max_memory=optional(limits)("max_memory", max_memory),
        peer_timeout=peer_timeout,
        mask_ratio=mask_ratio,  # type: ignore[arg-type]
        records=records,
        trust_remote_code=trust_remote_code,
    )
    place = None
    if output is not None:
        outside_checkpoints(text("output", output))
        place = check_absent(output)
    (observations,) = calibration.calibrate(
        recipe,
        Source.open(model),
        criteria=several(text)("criteria", criteria),
        output=place,
        progress=progress,
    )
    return observations


def rewrite(
    model: PathLike | Source,
    selection: Selection | PathLike,
    output: PathLike,
    *,
    mtp: str = Recipe.mtp,
    max_shard_size: int | str = Recipe.max_shard_size,
    engine: str | Sequence[str] = Recipe.engine,
    tensor_parallel: int = Recipe.tensor_parallel,
    expert_parallel: int = Recipe.expert_parallel,
    progress: Progress = SILENT,
) -> rewriting.Rewritten:
    """Write the checkpoint that has only the selected experts.

    Args:
        model: the model that was observed: a directory, a short name, a repository id, or a
            source that is open already.
        selection: which experts to keep, or the file that it was saved in.
        output: a directory that does not exist yet.
        mtp, max_shard_size, engine, tensor_parallel, expert_parallel: as in `Recipe`.

    Raises:
        EasyEPError: a subclass says why nothing was written.
    """
    output = text("output", output)
    outside_checkpoints(output)
    chosen = opened(Selection, selection)
    source = model if isinstance(model, Source) else Source.open(model)
    serving = Serving(
        several(text)("engine", engine),
        count("tensor_parallel", tensor_parallel),
        count("expert_parallel", expert_parallel),
    )
    warnings = check_serving(
        serving, source.architecture.engines, source.router, chosen.keep, chosen.groups
    )
    rewritten = _rewrite(
        source,
        chosen,
        output,
        mtp=mtp,
        max_shard_size=size("max_shard_size", max_shard_size),
        facts={},
        progress=progress,
    )
    return replace(rewritten, warnings=(*rewritten.warnings, *warnings))


def verify(
    path: PathLike,
    source: PathLike | None = None,
    *,
    jobs: int | None = None,
    progress: Progress = SILENT,
) -> verification.Verification:
    """Check a pruned checkpoint; with its `source`, compare it byte by byte.

    Args:
        path: the pruned checkpoint.
        source: the model that it was made from: a directory, a short name, or a repository id.
        jobs: files read at a time; None = one for each core.
    """
    jobs = optional(count)("jobs", jobs)
    original = resolve(text("source", source)).path if source is not None else None
    return verification.verify(Path(text("path", path)), original, jobs=jobs, progress=progress)


def _rewrite(
    source: Source,
    chosen: Selection,
    output: PathLike,
    *,
    mtp: str,
    max_shard_size: int,
    facts: dict[str, Any],
    progress: Progress,
    check: rewriting.Check | None = None,
    early: rewriting.Rewriting | None = None,
) -> rewriting.Rewritten:
    earlier = shown_before(source.model.path)
    mtp = source.mtp_mode(mtp, chosen)
    work = rewriting.plan(
        source.checkpoint, chosen, mtp=mtp, max_shard_size=max_shard_size, layout=source.layout
    )
    manifest = {
        "source": source.identity.to_json(),
        **({"base_model": source.model.hub} if source.model.hub else {}),
        **({"earlier_demos_sha256": sorted(earlier)} if earlier else {}),
        "bytes_before": work.bytes_before,
        "bytes_after": work.bytes_after,
        **facts,
    }
    choice = {"selection": chosen.to_json(), "mtp": mtp}
    extra_files = {MODEL_CARD: model_card({**manifest, **choice}).encode()}
    small = sum(map(len, extra_files.values()))
    rewrite = rewriting.begun(work, output, small=small, progress=progress)
    with nullcontext(early) if early is not None else rewrite as writing:
        return writing.finish(
            work, manifest=manifest, extra_files=extra_files, check=check, progress=progress
        )
