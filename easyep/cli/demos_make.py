"""`easyep demos build` and `generate`: demonstrations from elsewhere."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import click

from easyep import demonstrations, loading, models
from easyep.atomic import write_bytes
from easyep.cli import options
from easyep.cli.console import print_json, progress_bars, say, warn
from easyep.cli.sections import command
from easyep.cli.values import Number
from easyep.demonstrations import building, generating
from easyep.demonstrations.in_process import InProcess
from easyep.demonstrations.server import Server
from easyep.demonstrations.sources import local_files
from easyep.errors import DemosError
from easyep.places import result_file
from easyep.recipe import read_yaml


@command("build", epilog="\b\nExample:\n  easyep demos build math --output math.jsonl")
@click.argument("recipe", metavar="RECIPE")
@options.output_file
@options.count("--count", help="Instead of the recipe's.")
@options.count("--seed", at_least=0, help="Instead of the recipe's.")
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
    result_file(output, data_files)
    chosen = building.BuildRecipe.from_mapping(read_yaml(building.recipe_file(recipe)))
    given = {"count": count, "seed": seed, "revision": revision}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if data_files:
        changes |= vars(local_files(data_files))
    chosen = dataclasses.replace(chosen, **changes)
    with progress_bars(quiet) as progress:
        lines = list(building.build(chosen, progress=progress))
    write_lines(output, lines)
    name, commit = chosen.source.name, lines[0].get("revision")
    if as_json:
        print_json({"output": output, "demos": len(lines), "dataset": name, "revision": commit})
    else:
        at = f" at {commit}" if commit else ""
        say(f"{output}: {len(lines)} demonstrations from {name}{at}")
        if chosen.source.moving:
            warn(
                f"warning: {recipe} names no commit of {name}, which may change; --revision "
                f"{commit} draws the same again"
            )
        if chosen.note:
            say(f"note: {chosen.note}")
        if not any(line["messages"][-1]["role"] == "assistant" for line in lines):
            say("these are prompts without answers: easyep demos generate asks a model for them")


@command(
    "generate",
    epilog="\b\nExample:\n  easyep demos generate --prompts math --server http://localhost:8000 "
    "--model deepseek-r1 --check --output r1-math.jsonl",
)
@click.option("--prompts", required=True, metavar="FILE|DOMAIN", help="Whose answers are made.")
@click.option(
    "--model", required=True, metavar="M", help="Its name on the server, or what to load."
)
@click.option(
    "--server", metavar="URL", help="A chat completions API; without it M is loaded here."
)
@options.output_file
@options.count(
    "--concurrency",
    default=8,
    help="Requests under way at once.",
)
@options.count(
    "--max-tokens",
    default=32768,
    help="Of an answer, thinking included.",
)
@click.option(
    "--temperature",
    type=Number(min=0),
    metavar="T",
    default=0.6,
    show_default=True,
    help="0 takes the likeliest token each time.",
)
@click.option(
    "--timeout",
    type=Number(min=0.1),
    metavar="S",
    default=1800.0,
    show_default=True,
    help="Seconds in which the whole answer must come, or the request is repeated.",
)
@options.count(
    "--retries",
    default=5,
    at_least=0,
    help="Further attempts of a request that failed.",
)
@click.option(
    "--api-key-variable",
    metavar="NAME",
    default="OPENAI_API_KEY",
    show_default=True,
    help="The environment variable that holds the server's key.",
)
@click.option(
    "--check", is_flag=True, help="Keep right answers only, where the prompt has a check."
)
@options.run_programs
@options.seed
@options.common
def generate_command(
    prompts: str,
    model: str,
    server: str | None,
    output: str,
    concurrency: int,
    check: bool,
    run_programs: bool,
    seed: int,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **asking: Any,
) -> None:
    """Ask a model for its own answers to prompts.

    Answers that were cut, refused or empty are left out. Each one is kept in OUTPUT.answers as it
    comes, so that the same command goes on where an earlier one ended.
    """
    result_file(output, [prompts])
    calibration = models.brought(model)["calibration"] if server is None else ""
    demos = demonstrations.read(demonstrations.file_or_domain(prompts, calibration))
    sampling = {
        "max_tokens": asking["max_tokens"],
        "temperature": asking["temperature"],
        "seed": seed,
    }
    if check and not run_programs:
        generating.refuse_programs(demos)  # before a large model is loaded
    asker = _asker(model, server, asking, sampling)
    with progress_bars(quiet) as progress:
        made = generating.generate(
            demos,
            asker.answer,
            f"{output}.answers",
            settings=json.dumps([model, sampling]),
            concurrency=concurrency,
            check=check,
            run_programs=run_programs,
            progress=progress,
        )
    as_text = isinstance(asker, InProcess) and asker.tools_as_text
    if as_text and not as_json:
        warn(
            f"warning: the chat template of {model} leaves tools out; they, their calls and "
            "results were written into the messages as text"
        )
    left = [f"{n} {state}" for state in generating.LEFT_OUT if (n := made.counts.get(state))]
    if not made.lines:
        raise DemosError(
            f"none of {len(demos)} answers can be kept: {', '.join(left)}; --max-tokens allows "
            f"longer ones, {output}.answers has what came"
        )
    write_lines(output, made.lines)
    if as_json:
        print_json(
            {
                "output": output,
                "counts": dict(made.counts),
                "failure": made.failure,
                "tools_as_text": as_text,
            }
        )
    else:
        told = f"; left out: {', '.join(left)}" if left else ""
        say(f"{output}: {len(made.lines)} of {len(demos)} answers kept{told}")
        if made.failure:
            say(f"the last failure: {made.failure}; the same command asks for those again")


def _asker(
    model: str, server: str | None, asking: Mapping[str, Any], sampling: Mapping[str, Any]
) -> Server | InProcess:
    if server is not None:
        key = os.environ.get(asking["api_key_variable"], "")
        return Server(
            server, model, key, sampling, retries=asking["retries"], timeout=asking["timeout"]
        )
    path = models.resolve(model).path
    loaded = loading.load_model(path), loading.load_tokenizer(path)
    return InProcess(*loaded, **sampling)


def write_lines(path: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSONL file, whole or not at all."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_bytes(path, text.encode())
