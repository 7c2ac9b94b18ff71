"""The stages that read or write a model: `observe`, `rewrite`, `verify`."""

from pathlib import Path
from typing import Any

import click

from easyep import pipeline
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
from easyep.cli.values import ALONE
from easyep.reporting.numbers import size


@command(
    "observe",
    epilog="\b\nExample:\n  easyep observe --model demo --domain math --output observations",
)
@options.model
@click.option(
    "--domain",
    type=ALONE,
    multiple=True,
    metavar="NAME",
    help="One domain (`easyep list domains`).",
)
@click.option(
    "--demos", type=ALONE, multiple=True, metavar="FILE", help="Your own demonstrations, JSONL."
)
@options.output_directory
@options.demo_choice
@options.mtp
@options.running
@click.option(
    "--criterion",
    "criteria",
    multiple=True,
    metavar="NAME",
    help="Without the full record: a criterion to sum up for; repeatable. [default: all that "
    "sums are enough for]",
)
@options.common
def observe_command(
    model: str, output: str, as_json: bool, quiet: bool, debug: bool, **choices: Any
) -> None:
    """Run the model on demonstrations and record what its experts did."""
    domain, demos = choices.pop("domain"), choices.pop("demos")
    if len(domain) + len(demos) != 1:
        raise click.UsageError(
            "give one --domain NAME or --demos FILE; observe each domain for itself, and mix them "
            "with easyep score"
        )
    choices |= {"domain": domain[0]} if domain else {"demos": demos[0]}
    with progress_bars(quiet) as progress:
        seen = pipeline.observe(model, output=output, progress=progress, **choices)
    warn_about_demos(seen, 0 if choices["tokens_per_domain"] else choices["n_demos"], quiet)
    if as_json:
        print_json(
            {
                "output": output,
                "domain": seen.domain,
                "demos": len(seen.demos),
                "tokens": seen.num_tokens,
                "cut_tokens": sum(demo.cut for demo in seen.demos),
                "layers": sorted(seen.layers),
                "records": "full" if seen.sums is None else "none",
                "unreached_experts": {str(i): ids for i, ids in seen.unreached().items() if ids},
            }
        )
    else:
        say(
            f"{output}: {len(seen.demos)} demonstrations, {seen.num_tokens:,} tokens, "
            f"{len(seen.layers)} MoE layers"
        )


@command(
    "rewrite",
    epilog="\b\nExample:\n  "
    "easyep rewrite --model demo --selection selection.json --output demo-math",
)
@options.model
@click.option("--selection", required=True, metavar="FILE", help="What `easyep select` wrote.")
@options.output_directory
@options.mtp
@options.max_shard_size
@options.serving
@options.common
def rewrite_command(
    model: str,
    selection: str,
    output: str,
    mtp: str,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **choices: Any,
) -> None:
    """Write the checkpoint that has only the selected experts."""
    with progress_bars(quiet) as progress:
        done = pipeline.rewrite(model, selection, output, mtp=mtp, progress=progress, **choices)
    say_dropped_mtp(done.dropped_mtp, mtp)
    if as_json:
        print_json(
            {
                "output": output,
                "bytes_before": done.bytes_before,
                "bytes_after": done.bytes_after,
                "warnings": list(done.warnings),
                "dropped_mtp": list(done.dropped_mtp),
            }
        )
    else:
        for warning in done.warnings:
            warn(f"warning: {warning}")
        say(f"{output}: {size(done.bytes_after)} instead of {size(done.bytes_before)}")


@command("verify", epilog="\b\nExample:\n  easyep verify demo-math --source demo")
@click.argument("path", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--source", metavar="M", help="Compare every kept byte with this model.")
@options.count("--jobs", help="Files read at a time; by default one for each core.")
@options.common
def verify_command(
    path: Path, source: str | None, jobs: int | None, as_json: bool, quiet: bool, debug: bool
) -> None:
    """Check a pruned checkpoint, byte by byte where its source is given."""
    with progress_bars(quiet) as progress:
        result = pipeline.verify(path, source, jobs=jobs, progress=progress)
    if as_json:
        print_json({"path": str(path), **result.to_json()})
    else:
        rows = [(c.name, "ok" if c.ok else "WRONG", c.detail) for c in result.checks]
        print_table(str(path), ["check", "result", "detail"], rows)
    if not result.ok:
        raise click.ClickException("; ".join(result.problems))
