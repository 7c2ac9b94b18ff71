"""`easyep run` on a recipe that compares many pruned models."""

import contextlib
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

import click

from easyep import __version__
from easyep.artifacts.files import write_json
from easyep.atomic import check_file
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
    from easyep import study

    output = output or choices.pop("output", None)
    choices.pop("output", None)
    planned = study.Study.from_mapping(choices)
    if dry_run:
        raise click.UsageError("--dry-run is for recipes of one model, not for studies")
    if output:
        check_file(output)
    with progress_bars(quiet) as progress:
        cells = study.run(planned, work_dir=Path(work_dir) if work_dir else None, progress=progress)
    value = {**study.to_json(planned, cells), "made_with": _versions()}
    if output:
        write_json(output, value)
    if as_json:
        print_json(value)
        return
    columns, rows = cells_by_domain(value)
    print_table(f"{planned.study}: accuracy in %", columns, rows)
    if output:
        say(f"{output}: every number")


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "transformers", "lm_eval", "numpy"):
        with contextlib.suppress(PackageNotFoundError):  # lm-eval is needed by tasks only
            found[name] = version(name)
    return {
        "date": date.today().isoformat(),
        "easyep": __version__,
        **found,
        "python": platform.python_version(),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
    }


def _processor() -> str:
    """The processor's name where the system tells it (Linux), else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
