"""`easyep eval`: what a model can do."""

from pathlib import Path

import click

from easyep import models
from easyep.atomic import check_file
from easyep.cli import options
from easyep.cli.console import print_json, print_table, progress_bars
from easyep.recipe import DTYPES


@click.command("eval", epilog="\b\nExample:\n  easyep eval demo-math --against demo")
@click.argument("model", metavar="DIR")
@click.option(
    "--tasks",
    metavar="A,B,...",
    help="Tasks of eval/tasks/ or of lm-eval. [default: those that easyep has for the model]",
)
@click.option("--against", metavar="M", help="Evaluate this model too and show the difference.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    default=16,
    show_default=True,
    help="Items at a time.",
)
@click.option(
    "--num-fewshot",
    type=click.IntRange(min=0),
    metavar="N",
    help="Examples before each item. [default: the task's]",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N items only.")
@click.option(
    "--device", metavar="NAME", default="auto", show_default=True, help="auto, cpu, cuda:0, ..."
)
@click.option(
    "--dtype",
    metavar="|".join(DTYPES),
    default="auto",
    show_default=True,
    help="What it computes in; auto is the checkpoint's own type.",
)
@click.option("--trust-remote-code", is_flag=True, help="Run Python code in the checkpoint.")
@click.option("--output", metavar="FILE", help="Write the numbers there as JSON.")
@options.common
def eval_command(
    model: str,
    tasks: str | None,
    against: str | None,
    batch_size: int,
    num_fewshot: int | None,
    limit: int | None,
    device: str,
    dtype: str,
    trust_remote_code: bool,
    output: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Measure accuracy with lm-evaluation-harness."""
    from easyep.artifacts.files import write_json
    from easyep.evaluation.tasks import default_tasks
    from easyep.queries import evaluate

    if dtype not in DTYPES:
        raise click.UsageError(f"--dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if output is not None:
        check_file(output)
    chosen = tasks.split(",") if tasks else default_tasks(models.resolve(model))
    with progress_bars(quiet) as progress:
        measured = {
            name: evaluate(
                name,
                chosen,
                dtype=dtype,
                device=device,
                batch_size=batch_size,
                limit=limit,
                num_fewshot=num_fewshot,
                trust_remote_code=trust_remote_code,
                progress=progress,
            )
            for name in (model, against)
            if name is not None
        }
    found = {name: accuracy.to_json() for name, accuracy in measured.items()}
    if output is not None:
        write_json(output, found)
    if as_json:
        print_json(found)
        return
    rows = []
    for i, result in enumerate(measured[model].results):
        row = [result.task, result.metric, result.samples, _percent(result.value, result.stderr)]
        if against is not None:
            other = measured[against].results[i]
            row += [
                _percent(other.value, other.stderr),
                f"{100 * (result.value - other.value):+.1f}",
            ]
        rows.append(row)
    columns = ["task", "metric", "items", Path(model).name]
    print_table("", columns + ([Path(against).name, "difference"] if against else []), rows)


def _percent(value: float, stderr: float | None) -> str:
    return f"{100 * value:.1f}" + (f" ± {100 * stderr:.1f}" if stderr is not None else "")
