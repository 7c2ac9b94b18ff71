"""`easyep compare`: how far a model is from another one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from easyep.cli import options
from easyep.cli.console import print_json, print_table, progress_bars, say
from easyep.cli.sections import command
from easyep.cli.values import ALONE, one_of
from easyep.places import result_file
from easyep.reporting.numbers import with_error
from easyep.scoring import TOKENS

if TYPE_CHECKING:
    from easyep.comparing.estimates import Mean


@command(
    "compare",
    epilog="\b\nExamples:\n  easyep compare demo demo-math --domain math --domain facts\n"
    "  easyep compare demo --selection selection.json --domain math",
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="[B]", required=False)
@click.option(
    "--domain", type=ALONE, multiple=True, metavar="NAME", help="Text of a domain; repeatable."
)
@click.option(
    "--demos",
    type=ALONE,
    multiple=True,
    metavar="FILE",
    help="A JSONL file of demonstrations; repeatable.",
)
@click.option("--selection", metavar="FILE", help="Instead of B: A with all other experts masked.")
@options.count(
    "--n-demos",
    default=options.DEFAULTS["n_demos"],
    help="At most so many demonstrations per domain.",
)
@options.count("--max-length", help="Tokens per demonstration.")
@click.option(
    "--tokens",
    type=one_of("tokens", TOKENS),
    metavar="|".join(TOKENS),
    default="response",
    show_default=True,
    help="Which tokens count; of plain text all do.",
)
@options.style
@options.count(
    "--max-new-tokens",
    default=256,
    at_least=0,
    help="Where generated answers are cut; 0 generates none.",
)
@options.count(
    "--batch-size",
    default=16,
    help="Prompts at a time.",
)
@options.seed
@options.computing
@options.trust_remote_code
@click.option("--output", metavar="FILE", help="Write the numbers there as JSON.")
@options.common
def compare_command(
    first: str,
    second: str | None,
    domain: tuple[str, ...],
    demos: tuple[str, ...],
    output: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **choices: Any,
) -> None:
    """Compare what two models predict and answer on the same text.

    A is the reference. One model is in memory at a time.
    """
    if (second is None) == (choices["selection"] is None):
        raise click.UsageError("give a second model or --selection, one of them")
    if not domain and not demos:
        raise click.UsageError("give --domain or --demos")
    if output is not None:
        selection = choices["selection"]
        result_file(output, [*demos, *([] if selection is None else [selection])])
    from easyep.artifacts.files import write_json
    from easyep.comparing import compare

    with progress_bars(quiet) as progress:
        found = compare(first, second, domain=domain, demos=demos, progress=progress, **choices)
    if output is not None:
        write_json(output, found.to_json())
    if as_json:
        print_json(found.to_json())
        return
    if choices["max_new_tokens"] and all(one.generation is None for one in found.domains):
        say("no answers were compared: no demonstration, as far as it is read, has a prompt")
    names = [Path(name).name for name in (found.first, found.second)]
    if names[0] == names[1]:
        names = [found.first, found.second]
    rows = [
        [
            *(one.domain, one.demos, one.tokens, _HELD_OUT[one.held_out]),
            *(_mean(one.divergence, ".4f"), f"{one.p99:.2f}"),
            _mean(one.agreement, ".1f", 100),
            *(f"{one.first_loss.value:.3f}", f"{one.second_loss.value:.3f}"),
            _mean(one.loss_difference, ".3f"),
        ]
        for one in found.domains
    ]
    columns = ["domain", "demos", "tokens", "held out", "KL", "p99", "top-1 %"]
    columns += [*(f"loss {name}" for name in names), "difference"]
    print_table("Predictions, in nats per token", columns, rows)
    _print_answers(found, names)


_HELD_OUT = {True: "yes", False: "no", None: "?"}


def _print_answers(found: Any, names: list[str]) -> None:
    rows = []
    for one in found.domains:
        if one.generation is None:
            continue
        for name, health in zip(names, (one.generation.first, one.generation.second), strict=True):
            rows.append(
                [
                    *(one.domain, name, health.answers),
                    *(f"{100 * x:.0f}" for x in (health.empty, health.truncated, health.looping)),
                    _mean(health.length, ".1f"),
                ]
            )
        rows[-1] += [f"{one.generation.drift.value:+.1f}", f"{100 * one.generation.same:.0f}"]
        rows[-2] += ["", ""]
    if rows:
        columns = ["domain", "model", "answers", "empty %", "truncated %", "looping %"]
        columns += ["tokens", "drift", "same %"]
        print_table("Greedy answers", columns, rows)


def _mean(mean: "Mean", form: str, factor: int = 1) -> str:
    return with_error(mean.value, mean.stderr, form, factor)
