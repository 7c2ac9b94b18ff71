"""`easyep report`: one HTML file with the figures."""

import os
from pathlib import Path

import click

from easyep.cli import options
from easyep.cli.console import print_json, print_table, progress_bars, say
from easyep.cli.sections import command


@command(
    "report",
    epilog="\b\nExamples:\n  easyep report demo-math runs/demo\n"
    "  easyep report eval/results --output study.html --figures figures\n"
    "  easyep report demo-math eval.json bench.json --card demo-math/README.md",
)
@click.argument("folder", metavar="DIR")
@click.argument("more", nargs=-1, metavar="[DIR|FILE ...]")
@click.option("--output", metavar="FILE", help="The page; by default NAME.html, after DIR.")
@click.option("--figures", metavar="FOLDER", help="Write each figure there too, as .png and .svg.")
@click.option(
    "--card",
    metavar="FILE",
    help="Write the checkpoint's model card there, with what was measured on it; DIR/README.md "
    "replaces the one that pruning wrote.",
)
@options.common
def report_command(
    folder: str,
    more: tuple[str, ...],
    output: str | None,
    figures: str | None,
    card: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Write one HTML file about a checkpoint, a work directory, or a study.

    It needs no other file and no network. What several folders and files hold is told together:
    a checkpoint says what was kept, its work directory by what scores, results what that is worth.
    """
    from easyep.presenting import report

    first = Path(os.path.realpath(folder))
    page = output or f"{first.stem if first.is_file() else first.name}.html"
    with progress_bars(quiet) as progress:
        done = report(folder, *more, output=page, figures=figures, card=card, progress=progress)
    if as_json:
        print_json(
            {
                "path": str(done.path),
                "figures": list(done.figures),
                "left_out": done.left_out,
                "files": [str(file) for file in done.files],
            }
        )
        return
    print_table("Figures", ["figure"], [(title,) for title in done.figures])
    if done.left_out:
        print_table("Not shown", ["what", "why"], list(done.left_out.items()))
    say(f"{done.path} written" + (f", and {len(done.files)} files in {figures}" if figures else ""))
    if card is not None:
        say(f"{card}: the model card")
