"""`easyep demos show`, `check` and `table`."""

from collections import Counter
from typing import Any

import click

from easyep import demonstrations, loading, models
from easyep.artifacts import Demo, TokenSequence
from easyep.cli import options
from easyep.cli.console import print_coloured, print_json, print_table, print_text, say
from easyep.cli.plain import plain
from easyep.cli.sections import command
from easyep.demonstrations import catalogue, checks, quality
from easyep.demonstrations.conversation import STYLES
from easyep.errors import DemosError


@command("show", epilog="\b\nExample:\n  easyep demos show math --model demo -n 1")
@click.argument("file", metavar="FILE|DOMAIN")
@options.model
@options.style
@options.count(
    "-n", "count", default=3,
    help="How many, from the beginning.",
)  # fmt: skip
@options.count("--line", help="Only this demonstration.")
@options.count("--max-length", help="Tokens of each.")
@options.common
def show_command(
    file: str,
    model: str,
    style: Any,
    count: int,
    line: int | None,
    max_length: int | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Print what a model reads of demonstrations; the response tokens are in colour."""
    found = models.resolve(model)
    demos = demonstrations.read(demonstrations.file_or_domain(file, found.calibration))
    if line is not None and line > len(demos):
        raise DemosError(f"{file} ends with demonstration {len(demos)}; there is no {line}")
    chosen = demos[:count] if line is None else [demos[line - 1]]
    tokenizer = loading.load_tokenizer(found.path)
    shown = [(d, demonstrations.render(d, tokenizer, max_length, style)) for d in chosen]
    if as_json:
        print_json(
            {
                "demos": [
                    {
                        "origin": demo.origin,
                        "tokens": len(tokens),
                        "response_tokens": int(tokens.is_response.sum()),
                        "cut": tokens.cut,
                        "text": tokenizer.decode(tokens.input_ids),
                    }
                    for demo, tokens in shown
                ]
            }
        )
        return
    for demo, tokens in shown:
        _print_demo(demo, tokens, tokenizer)


@command("check", epilog="\b\nExample:\n  easyep demos check mine.jsonl --against eval/items.jsonl")
@click.argument("file", metavar="FILE|DOMAIN")
@click.option("--model", metavar="M", help="Whose domain it is; the demo model has its own.")
@options.run_programs
@click.option(
    "--against",
    multiple=True,
    metavar="FILE",
    help="Texts that must not be among them: JSONL, or one a line. [default: easyep's eval items]",
)
@options.common
def check_command(
    file: str,
    model: str | None,
    run_programs: bool,
    against: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Look for duplicates, gaps, wrong answers, leaks of evaluation items and imbalance.

    Exits with 1 if anything but imbalance was found.
    """
    calibration = models.brought(model)["calibration"] if model is not None else ""
    demos = demonstrations.read(demonstrations.file_or_domain(file, calibration))
    findings = quality.inspect(
        demos, quality.texts_of(against or quality.own_items()), run_programs=run_programs
    )
    programs = sum(checks.runs_program(demo.metadata.get("check")) for demo in demos)
    not_run = 0 if run_programs else programs
    if as_json:
        listed = [vars(finding) for finding in findings]
        print_json({"demos": len(demos), "not_run": not_run, "findings": listed})
    else:
        for finding in findings:
            print_text(f"{finding.where}: {finding.kind}: {finding.what}")
        counts = Counter(finding.kind for finding in findings)
        told = ", ".join(f"{n} {kind}" for kind, n in counts.items()) or "nothing to complain about"
        say(f"{len(demos)} demonstrations: {told}")
        if not_run:
            say(
                f"programs in {not_run} of the answers were not run; --run-programs runs them, "
                "with limits, on this machine"
            )
    if any(finding.kind != "imbalance" for finding in findings):
        raise click.exceptions.Exit(1)


@command("table", epilog="\b\nExample:\n  easyep demos table")
@click.option("--model", metavar="M", help="Count tokens with this model's tokenizer and template.")
@options.common
def table_command(model: str | None, as_json: bool, quiet: bool, debug: bool) -> None:
    """Print the table of the domains that come with easyep, as Markdown."""
    if as_json:
        names = demonstrations.domains()
        print_json({"domains": [vars(catalogue.entry(name)) for name in names]})
        return
    count = None
    if model is not None:
        tokenizer = loading.load_tokenizer(models.resolve(model).path)

        def count(name: str) -> dict[str, int]:
            demos = demonstrations.read(demonstrations.domain_file(name))
            return {
                way: sum(len(demonstrations.render(d, tokenizer, style=way)) for d in demos)
                for way in STYLES
                if way != "auto"
            }

    print_text(f"{catalogue.table(count)}\n\n{catalogue.topics()}")


def _print_demo(demo: Demo, tokens: TokenSequence, tokenizer: Any) -> None:
    """The text that the model reads, its responses in colour."""
    from rich.text import Text

    print_text(demo.origin)
    facts = [(key, value) for key, value in demo.metadata.items() if isinstance(value, str)]
    print_table(
        "",
        ["what", "value"],
        [
            ("tokens", f"{len(tokens):,}"),
            ("of them response", f"{int(tokens.is_response.sum()):,}"),
            ("cut at the end", f"{tokens.cut:,}"),
            *facts,
        ],
    )
    text, begin = Text(), 0
    for end in range(1, len(tokens) + 1):
        if end == len(tokens) or tokens.is_response[end] != tokens.is_response[begin]:
            part = tokenizer.decode(tokens.input_ids[begin:end])
            text.append(plain(part), style="green" if tokens.is_response[begin] else "dim")
            begin = end
    print_coloured(text)
