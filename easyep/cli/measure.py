"""`easyep eval`: what a model can do."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from easyep.choices import text
from easyep.cli import options
from easyep.cli.console import print_json, print_table, progress_bars, say
from easyep.cli.sections import command
from easyep.cli.values import one_of
from easyep.demonstrations.conversation import STYLES
from easyep.evaluation.asking import BACKENDS
from easyep.places import result_file
from easyep.reporting.numbers import with_error


@command(
    "eval",
    epilog="\b\nExamples:\n  easyep eval demo-math --against demo\n"
    "  easyep eval Qwen/Qwen3-30B-A3B --suite math --backend vllm --output eval/results",
)
@click.argument("model", metavar="DIR")
@click.option(
    "--tasks",
    metavar="A,B,...",
    help="Tasks of eval/tasks/ or of lm-eval. [default: those that easyep has for the model]",
)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="NAME",
    help="The usual tasks of a domain (eval/suites.yaml); repeatable.",
)
@click.option(
    "--against", metavar="M", help="Evaluate this model too, and test the difference by items."
)
@click.option(
    "--selection",
    metavar="FILE",
    help="Evaluate the model as if it were pruned: other experts are masked, nothing is written.",
)
@click.option(
    "--backend",
    type=one_of("backend", BACKENDS),
    metavar="|".join(BACKENDS),
    default="hf",
    show_default=True,
    help="Where the model runs, as lm-eval calls it; hf is this process.",
)
@click.option(
    "--model-args",
    metavar="A=B,...",
    default="",
    help="Further arguments of lm-eval's model class; a server's base_url.",
)
@click.option(
    "--gen-kwargs", metavar="A=B,...", default="", help="Over the tasks' settings of generation."
)
@click.option(
    "--style",
    type=one_of("style", STYLES),
    metavar="|".join(STYLES),
    help="Whether the model may think before it answers. [default: auto with --suite, else as "
    "the chat template has it]",
)
@options.count(
    "--batch-size",
    help="Items at a time. [default: 16 in this process, else what the engine takes]",
)
@options.count(
    "--num-fewshot",
    at_least=0,
    help="Examples before each item. [default: the task's]",
)
@options.count("--limit", help="The first N items only.")
@options.computing
@click.option(
    "--confirm-run-unsafe-code",
    is_flag=True,
    help="Run code that the model wrote, on this machine; code tasks need it.",
)
@options.trust_remote_code
@click.option(
    "--work-dir", metavar="DIR", help="Keep what is measured there; again, it goes on from there."
)
@click.option(
    "--output",
    metavar="DIR|FILE.json",
    help="A folder gets results and samples in lm-eval's own form, a file the numbers.",
)
@options.common
def eval_command(
    model: str,
    tasks: str | None,
    against: str | None,
    selection: str | None,
    model_args: str,
    gen_kwargs: str,
    output: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **choices: Any,
) -> None:
    """Measure accuracy with lm-evaluation-harness."""
    named = None if tasks is None else [*filter(None, map(str.strip, tasks.split(",")))]
    if named == []:
        raise click.UsageError("--tasks names no task; without it all that easyep has are done")
    if output is not None:
        output = text("output", output)
        read = [selection] if selection is not None else []
        result_file(output if output.endswith(".json") else Path(output) / "results.json", read)
    from easyep.artifacts.files import write_json
    from easyep.evaluation.paired import differences
    from easyep.evaluation.saving import save
    from easyep.measuring import check_place, evaluate

    label = model if selection is None else f"{model}, masked"
    models = {label: (model, selection)} | ({against: (against, None)} if against else {})
    if against == label:
        raise click.UsageError("--against is the model itself")
    for which, _ in models.values():  # or hours of the first would be for nothing
        check_place(which, choices["work_dir"])
    wanted = {
        "tasks": named,
        "model_args": _arguments(model_args),
        "gen_kwargs": _arguments(gen_kwargs),
        **choices,
    }
    measured = {}
    with progress_bars(quiet) as progress:
        for name, (which, chosen) in models.items():
            measured[name] = evaluate(which, selection=chosen, progress=progress, **wanted)
            if output is not None and not output.endswith(".json"):
                say(f"{save(measured[name], Path(output), name)}: in lm-eval's form")
    found: dict[str, Any] = {name: accuracy.to_json() for name, accuracy in measured.items()}
    paired = differences(measured[label], measured[against]) if against else ()
    if against:
        found["differences"] = [each.to_json() for each in paired]
    if output is not None and output.endswith(".json"):
        write_json(output, found)
    if as_json:
        print_json(found)
        return
    if against:
        _print_differences(label, against, measured, paired)
        return
    rows = [
        [r.task, r.metric, r.samples, with_error(r.value, r.stderr, ".1f", 100)]
        for r in measured[label].shown
    ]
    print_table("", ["task", "metric", "items", Path(label).name], rows)


def _print_differences(label: str, against: str, measured: Any, paired: Sequence[Any]) -> None:
    names = [Path(label).name, Path(against).name]
    if names[0] == names[1]:
        names = [label, against]
    others = {(r.task, r.metric): r for r in measured[against].results}
    pairs = {(d.task, d.metric): d for d in paired}
    rows = []
    for result in measured[label].shown:
        key = (result.task, result.metric)
        if key not in pairs:
            continue
        pair, other = pairs[key], others[key]
        rows.append(
            [
                *(result.task, result.metric, result.samples),
                with_error(result.value, result.stderr, ".1f", 100),
                with_error(other.value, other.stderr, ".1f", 100),
                with_error(pair.difference, pair.stderr, "+.1f", 100),
                f"{pair.p:.2g}" if pair.p is not None else "",
                f"{pair.better} : {pair.worse}" if pair.test else "",
            ]
        )
    columns = ["task", "metric", "items", *names]
    print_table("", [*columns, "difference", "p", "better : worse"], rows)


def _arguments(text: str) -> dict[str, Any]:
    """``a=1,b=x``: numbers, true and false are what they look like, all else is text."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise click.UsageError(f"{part!r} is not of the form NAME=VALUE")
        try:
            found[name.strip()] = json.loads(value.lower() if value in ("True", "False") else value)
        except (ValueError, RecursionError):
            found[name.strip()] = value
    return found
