"""`easyep prune` and `easyep run`: the whole way."""

import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from easyep import pipeline, planning, running
from easyep.checkpoint.side_files import MANIFEST
from easyep.cli import options
from easyep.cli.console import (
    print_json,
    print_table,
    progress_bars,
    say,
    say_dropped_mtp,
    warn,
    warn_about_demos,
)
from easyep.cli.sections import command
from easyep.cli.streaming import sharing_rows, streaming_facts, streaming_rows
from easyep.cli.values import DOMAIN, WEIGHTED, NewDirectory
from easyep.criteria import needs_record
from easyep.errors import EasyEPError, NoRoomError
from easyep.launcher import rank
from easyep.recipe import Recipe, own_output
from easyep.reporting.numbers import size
from easyep.runners import runner_class
from easyep.selection import retained_share

if TYPE_CHECKING:
    from easyep.redoing import Made


@command(
    "prune",
    epilog="\b\nExample:\n  easyep prune --model demo --domain math --keep 0.5 --output demo-math",
)
@options.model
@click.option(
    "--domain",
    type=DOMAIN,
    multiple=True,
    metavar="NAME[:WEIGHT]",
    help="A domain (`easyep list domains`); repeat it to mix several.",
)
@click.option(
    "--demos",
    type=WEIGHTED,
    multiple=True,
    metavar="FILE[:WEIGHT]",
    help="Your own demonstrations, JSONL; repeatable.",
)
@click.option("--output", type=NewDirectory(), help="A directory that does not exist yet.")
@options.keep
@options.limits
@options.criterion
@options.tokens
@options.mix
@options.demo_choice
@options.mtp
@options.max_shard_size
@options.serving
@options.running
@click.option(
    "--work-dir",
    metavar="DIR",
    help="Save every stage here; the same command goes on from what is there.",
)
@options.dry_run
@options.common
def prune_command(
    output: str | None,
    work_dir: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **choices: Any,
) -> None:
    """Prune a model for a domain: observe, score, select, rewrite, verify."""
    if not (choices["domain"] or choices["demos"]) and needs_record(choices["criterion"]):
        raise click.UsageError("give --domain NAME (`easyep list domains`) or --demos FILE.jsonl")
    _prune(choices, output, work_dir, dry_run, as_json, quiet)


def _output_of(given: dict[str, Any]) -> tuple[str | None, bool]:
    """Where a recipe writes, as `Logged` asks; what is wrong with it is told when it is run."""
    output, recipe = given["output"], Path(given["recipe"])
    if output is not None or recipe.name == MANIFEST or (recipe.exists() and not recipe.is_file()):
        return output, True
    try:
        entries = running.read_recipe(recipe, given["trust_remote_code"])
        return entries.get("output"), "study" not in entries
    except EasyEPError:
        return None, True


@command(
    "run",
    output_of=_output_of,
    epilog="\b\nExamples:\n  easyep run recipes/demo.yaml\n"
    "  easyep run demo-math/easyep.json --output again",
)
@click.argument("recipe", metavar="RECIPE.yaml|DIR/easyep.json")
@click.option("--output", type=NewDirectory(), help="Instead of the recipe's own output.")
@click.option("--work-dir", metavar="DIR", help="Save every stage here, and go on from there.")
@options.dry_run
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Run Python code that lies in the checkpoint; a recipe cannot ask for it by itself.",
)
@options.common
def run_command(
    recipe: str,
    output: str | None,
    work_dir: str | None,
    dry_run: bool,
    trust_remote_code: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Run a recipe: one pruned model, or a study that compares many.

    The manifest of a pruned checkpoint is a recipe too: the same bytes are made again.
    """
    from easyep.redoing import Made

    if Path(recipe).name == MANIFEST:
        _redo(Made.load(recipe, trust_remote_code), output, work_dir, dry_run, as_json, quiet)
        return
    choices = running.read_recipe(recipe, trust_remote_code)
    own = choices.pop("output", None)
    if output is None and own is not None:
        output = own_output(own, recipe)
    if "study" in choices:
        from easyep.cli.study import run_study

        if rank().size > 1:
            raise click.UsageError("a study is run by one process: start it without a launcher")
        run_study(choices, output, work_dir, dry_run, as_json, quiet)
        return
    _prune(Recipe.from_mapping(choices).to_json(), output, work_dir, dry_run, as_json, quiet)


def _redo(
    made: "Made",
    output: str | None,
    work_dir: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    for warning in made.warnings:
        warn(f"warning: {warning}")

    def check(done: pipeline.Pruned) -> None:
        made.check(done.selection, done.path)

    _prune(made.recipe.to_json(), output, work_dir, dry_run, as_json, quiet, check)


def _prune(
    choices: dict[str, Any],
    output: str | None,
    work_dir: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    check: Callable[[pipeline.Pruned], None] | None = None,
) -> None:
    """Prune, `check` and tell; or plan and tell."""
    if dry_run:
        planned = planning.plan(output=output, work_dir=work_dir, **choices)
        work = planned.rewriting
        dropped = work.layout.mtp_layers if work.mtp == "drop" else ()
        say_dropped_mtp(dropped, choices["mtp"], "will be")
        _show_plan(planned, work_dir, as_json)
        if planned.no_room:
            raise NoRoomError(planned.no_room)
        return
    if output is None:
        raise click.UsageError("give --output DIR, or --dry-run to see the plan only")
    with progress_bars(quiet) as progress:
        done = pipeline.prune(output=output, work_dir=work_dir, progress=progress, **choices)
    if check is not None:
        check(done)
    _tell(done, choices, as_json, quiet)


def _tell(done: pipeline.Pruned, choices: dict[str, Any], as_json: bool, quiet: bool) -> None:
    if not needs_record(done.scores.criterion) and (choices["domain"] or choices["demos"]):
        say(f"the criterion {done.scores.criterion} needs no demonstrations; none were shown")
    # A limit on tokens leaves fewer demonstrations on purpose.
    asked = 0 if choices["tokens_per_domain"] else choices["n_demos"]
    for seen in done.observations:
        warn_about_demos(seen, asked, quiet)
    say_dropped_mtp(done.rewritten.dropped_mtp, choices["mtp"])
    if not as_json:
        for warning in done.rewritten.warnings:
            warn(f"warning: {warning}")
    shares = retained_share(done.scores, done.selection)
    if as_json:
        print_json(
            {
                "output": str(done.path),
                "keep": done.selection.keep,
                "num_experts": done.selection.num_experts,
                "criterion": done.selection.criterion,
                "groups": done.selection.groups,
                "bytes_before": done.rewritten.bytes_before,
                "bytes_after": done.rewritten.bytes_after,
                "retained_share": {str(layer): share for layer, share in shares.items()},
                "checks": len(done.verification.checks),
                "cut_tokens": {
                    seen.domain: sum(demo.cut for demo in seen.demos) for seen in done.observations
                },
                "warnings": list(done.rewritten.warnings),
                "dropped_mtp": list(done.rewritten.dropped_mtp),
                "seconds": done.seconds,
            }
        )
    else:
        print_table(
            f"{done.selection.keep} of {done.selection.num_experts} experts kept in every layer, "
            f"by {done.selection.criterion}",
            ["layer", "tokens", "experts reached", "share of the score kept"],
            [
                (
                    layer,
                    sum(seen.tokens_in(layer) for seen in done.observations),
                    int((done.scores.layers[layer] != 0).sum()) if done.observations else "-",
                    f"{share:.1%}",
                )
                for layer, share in shares.items()
            ],
        )
        before, after = done.rewritten.bytes_before, done.rewritten.bytes_after
        say(
            f"{done.path}: {size(after)} instead of {size(before)} "
            f"({after / before:.0%}), {len(done.verification.checks)} checks passed, "
            f"{sum(done.seconds.values()):.1f} s"
        )
        lost = shlex.join(["easyep", "eval", str(done.path), "--against", str(choices["model"])])
        say(f"What it lost: {lost}")


def _show_plan(planned: planning.Planned, work_dir: str | None, as_json: bool) -> None:
    before, after = planned.rewriting.bytes_before, planned.rewriting.bytes_after
    if as_json:
        print_json(
            {
                "keep": planned.keep,
                "num_experts": planned.router.num_experts,
                "bytes_before": before,
                "bytes_after": after,
                "runner": planned.runner,
                "model_bytes": planned.model_bytes,
                "disk_bytes": planned.rewriting.disk_bytes,
                "demos": planned.demos,
                "record_bytes": planned.record_bytes,
                "processes": None if planned.share is None else asdict(planned.share),
                "fetch_bytes": planned.fetch_bytes,
                "no_room": planned.no_room,
                "stream": streaming_facts(planned.forecast),
                "warnings": list(planned.rewriting.warnings),
            }
        )
        return
    how = runner_class(planned.runner).how if planned.runner else "; this criterion does not run it"
    rows = [
        ("experts per layer", f"{planned.keep} of {planned.router.num_experts}"),
        ("checkpoint", f"{size(after)} instead of {size(before)}"),
        ("disk needed", size(planned.rewriting.disk_bytes)),
        ("the model in memory", f"{size(planned.model_bytes)}{how}"),
        *(
            (f"shown: {name}", f"{shown['demos']} demonstrations, {shown['tokens']:,} tokens")
            for name, shown in planned.demos.items()
        ),
    ]
    if planned.fetch_bytes:
        rows.insert(0, ("to be fetched first", size(planned.fetch_bytes)))
    if planned.demos:
        rows.append(("full record", size(planned.record_bytes)))
    rows += [*sharing_rows(planned), *streaming_rows(planned, work_dir)]
    print_table("The plan; nothing was written", ["what", "value"], rows)
    for warning in planned.rewriting.warnings:
        warn(f"warning: {warning}")
