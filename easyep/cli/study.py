"""`easyep run` on a recipe that compares many pruned models."""

from typing import Any

import click

from easyep.cli.console import print_json, print_table, progress_bars, say
from easyep.reporting.study_table import cells_by_domain


def run_study(
    choices: dict[str, Any],
    output: str | None,
    work_dir: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a study, print its table, and write its numbers to `output`, a JSON file."""
    from easyep import running, study

    planned = study.Study.from_mapping(choices)
    if dry_run:
        raise click.UsageError("--dry-run is for recipes of one model, not for studies")
    with progress_bars(quiet) as progress:
        value = running.run_study(planned, output, work_dir, progress)
    if as_json:
        print_json(value)
        return
    columns, rows = cells_by_domain(value)
    print_table(f"{planned.study}: accuracy in %", columns, rows)
    if output:
        say(f"{output}: every number")
