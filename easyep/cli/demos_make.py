"""`easyep demos build` and `generate`: demonstrations from elsewhere."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import click

from easyep.atomic import check_file, write_bytes
from easyep.cli import options
from easyep.cli.console import print_json, progress_bars, say
from easyep.demonstrations import building
from easyep.recipe import read_yaml


@click.command("build", epilog="\b\nExample:\n  easyep demos build math --output math.jsonl")
@click.argument("recipe", metavar="RECIPE")
@options.output_file
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Instead of the recipe's.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Instead of the recipe's.")
@click.option("--revision", metavar="REV", help="A commit of the data set, to get the same again.")
@click.option(
    "--data-files",
    multiple=True,
    metavar="FILE",
    help="Rows in local files (.jsonl, .json, .csv, .parquet) instead of the hub.",
)
@options.common
def build_command(
    recipe: str,
    output: str,
    count: int | None,
    seed: int | None,
    revision: str | None,
    data_files: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Draw demonstrations from a Hugging Face data set by a recipe.

    RECIPE is a YAML file, or the name of one of those in recipes/demos/. Rows are streamed: no
    more is downloaded than what is read.
    """
    check_file(output)
    chosen = building.BuildRecipe.from_mapping(read_yaml(building.recipe_file(recipe)))
    given = {"count": count, "seed": seed, "revision": revision}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if data_files:
        changes |= building.local_files(data_files)
    chosen = dataclasses.replace(chosen, **changes)
    with progress_bars(quiet) as progress:
        lines = list(building.build(chosen, progress=progress))
    write_lines(output, lines)
    if as_json:
        print_json({"output": output, "demos": len(lines), "dataset": chosen.dataset})
    else:
        say(f"{output}: {len(lines)} demonstrations from {chosen.dataset}")
        if chosen.note:
            say(f"note: {chosen.note}")
        if not any(line["messages"][-1]["role"] == "assistant" for line in lines):
            say("these are prompts without answers: easyep demos generate asks a model for them")


def write_lines(path: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSONL file, whole or not at all."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_bytes(path, text.encode())
