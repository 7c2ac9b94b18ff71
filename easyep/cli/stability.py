"""`easyep stability`: how much the choice depends on what was shown."""

from typing import Any

import click

from easyep import overlap, scoring
from easyep.artifacts import Observations
from easyep.artifacts.files import write_json
from easyep.cli import options
from easyep.cli.console import print_json, print_table, progress_bars, say
from easyep.cli.sections import command
from easyep.cli.values import FIGURE
from easyep.overlap.study import DEMONSTRATIONS, SAMPLES
from easyep.places import result_file
from easyep.reporting.drawing import check_figure
from easyep.reporting.stability_figure import stability_figure


@command(
    "stability",
    epilog="\b\nExample:\n  easyep stability --observations math code --keep 0.5 --keep 4 "
    "--figure stability.png",
)
@click.option(
    "--observations",
    required=True,
    multiple=True,
    metavar="[DOMAIN=]OBS",
    help="What `easyep observe` wrote; sets given the same DOMAIN count as data sets of it.",
)
@click.argument("more", nargs=-1, metavar="[[DOMAIN=]OBS ...]")
@options.criterion
@options.keep_several
@options.groups
@options.count(
    "--demonstrations",
    multiple=True,
    help="Sizes of the samples; the whole set is always one. [default: "
    f"{', '.join(map(str, DEMONSTRATIONS))}]",
)
@options.count(
    "--samples",
    default=SAMPLES,
    help="Samples of each size.",
)
@options.tokens
@options.seed
@click.option("--output", metavar="FILE", help="Write every number here, as JSON.")
@click.option("--figure", type=FIGURE, metavar="FILE", help="Draw it: .png, .svg or .pdf.")
@options.common
def stability_command(
    observations: tuple[str, ...],
    more: tuple[str, ...],
    criterion: str,
    keep: tuple[float, ...],
    groups: str,
    demonstrations: tuple[int, ...],
    samples: int,
    tokens: scoring.Tokens,
    seed: int,
    output: str | None,
    figure: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Show how much the choice depends on what was shown.

    Overlap of the kept experts: of samples of the demonstrations with all of them, and between
    sets of demonstrations, of one domain or of several.
    """
    named = [_labelled(text) for text in (*observations, *more)]
    read = [path for _, path in named]
    if output is not None:
        result_file(output, read)
    if figure is not None:
        check_figure(figure)
        result_file(figure, [*read, *([] if output is None else [output])])
    seen = [Observations.load(path) for _, path in named]
    with progress_bars(quiet) as progress:
        found = overlap.stability(
            seen,
            criterion,
            domains=[label or one.domain for (label, _), one in zip(named, seen, strict=True)],
            keep=keep,
            groups=groups,
            demonstrations=demonstrations or None,
            samples=samples,
            tokens=tokens,
            seed=seed,
            progress=progress,
        )
    value = found.to_json()
    if output is not None:
        write_json(output, value)
    if figure is not None:
        stability_figure(value, figure)
    if as_json:
        print_json(value)
    else:
        _show(found)
    for file in (output, figure):
        if file is not None:
            say(f"{file} written")


def _labelled(text: str) -> tuple[str, str]:
    """``DOMAIN=OBS`` -> both; the domain is empty where none is named."""
    label, equals, path = text.partition("=")
    return (label, path) if equals and "/" not in label else ("", text)


def _show(found: overlap.Stability) -> None:
    for keep in found.keep:
        rows: list[tuple[Any, ...]] = [
            (
                one.set,
                one.demos,
                f"{one.overlap:.1%}",
                f"± {one.spread:.1%}" if one.samples > 1 else "-",
                "-" if one.disjoint is None else f"{one.disjoint:.1%}",
            )
            for one in found.by_number
            if one.keep == keep
        ]
        chance = keep / found.num_experts
        print_table(
            f"{keep} of {found.num_experts} experts by {found.criterion}; by chance {chance:.1%}",
            ["set", "demonstrations", "as the whole set", "spread", "two disjoint samples"],
            rows,
        )
        between = [
            (
                " - ".join(one.sets),
                "one domain" if one.same_domain else "two domains",
                f"{one.overlap:.1%}",
                f"{one.least:.1%}",
                one.least_layer,
            )
            for one in found.between
            if one.keep == keep
        ]
        if between:
            print_table("", ["sets", "of", "overlap", "in the least layer", "which is"], between)
