"""What is decided without running the model: `score`, `select`."""

from typing import Any

import click

from easyep import queries, scoring, selection
from easyep.artifacts import Observations, Scores, Selection
from easyep.cli import options
from easyep.cli.console import print_json, print_table, progress_bars, say
from easyep.cli.given import given
from easyep.cli.sections import command
from easyep.cli.values import WEIGHTED
from easyep.demonstrations import parse_weighted
from easyep.places import result_file


@command(
    "score",
    epilog="\b\nExamples:\n  easyep score --observations math code:0.5 --output scores.json\n  "
    "easyep score --model demo --criterion aimer --output scores.json",
)
@click.option(
    "--observations",
    type=WEIGHTED,
    multiple=True,
    metavar="OBS[:WEIGHT]",
    help="What `easyep observe` wrote; several are mixed.",
)
@click.argument("more", type=WEIGHTED, nargs=-1, metavar="[OBS[:WEIGHT] ...]")
@click.option(
    "--model", metavar="M", help="The observed model, for criteria that look at its weights."
)
@options.criterion
@options.tokens
@options.mix
@options.mtp
@options.seed
@options.output_file
@options.common
def score_command(
    observations: tuple[str, ...],
    more: tuple[str, ...],
    output: str,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **choices: Any,
) -> None:
    """Score every expert from observations, without the model."""
    named = [parse_weighted(text) for text in (*observations, *more)]
    result_file(output, [name for name, _ in named])
    if not named and choices["model"] is None:
        raise click.UsageError(
            "give --observations OBS, or --model M with a criterion that looks at weights only"
        )
    if named and "mtp" in given():
        raise click.UsageError("--mtp is for scores by weights: observations have their layers")
    with progress_bars(quiet) as progress:
        scores = scoring.score(
            [name for name, _ in named],
            weights=[weight for _, weight in named] or None,
            progress=progress,
            **choices,
        )
    scores.save(output)
    if as_json:
        print_json(
            {"output": output, "criterion": scores.criterion, "layers": sorted(scores.layers)}
        )
    else:
        say(f"{output}: {len(scores.layers)} layers x {scores.router.num_experts} experts")


@command(
    "select",
    epilog="\b\nExample:\n  easyep select --scores scores.json --model demo --keep 0.5 "
    "--output selection.json",
)
@click.option("--scores", metavar="FILE", help="What `easyep score` wrote.")
@click.option(
    "--mask",
    metavar="FILE",
    help="Instead of scores and --keep: JSON, one list of 0/1 per MoE layer.",
)
@click.option("--model", metavar="M", help="Check that the scores are of this model.")
@options.keep_several
@options.limits
@click.option("--explain", is_flag=True, help="Show how close the decision was in each layer.")
@click.option(
    "--compare",
    multiple=True,
    metavar="OTHER",
    help="Show how another selection differs, or what other scores would have chosen.",
)
@click.option(
    "--observations",
    metavar="OBS",
    help="With --explain or --compare: how much of the recorded routing stays as it was.",
)
@click.option(
    "--output", required=True, metavar="FILE", help="Where to write; {keep} in it is the number."
)
@options.common
def select_command(
    scores: str | None,
    mask: str | None,
    model: str | None,
    keep: tuple[float, ...],
    explain: bool,
    compare: tuple[str, ...],
    observations: str | None,
    output: str,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **limits: Any,
) -> None:
    """Choose the experts to keep."""
    if (scores is None) == (mask is None) or (mask and not model):
        raise click.UsageError("give either --scores FILE, or --mask FILE with --model M")
    if mask and (explain or compare):
        raise click.UsageError("--explain and --compare need --scores: a mask has none")
    decided = sorted(given() & {"keep", "align", "protect", "forbid"})
    if mask and decided:
        raise click.UsageError(f"--{decided[0]} needs --scores: a mask says which experts are kept")
    if observations and not (explain or compare):
        raise click.UsageError("--observations is for --explain or --compare")
    if len(keep) > 1 and "{keep}" not in output:
        raise click.UsageError(
            "several --keep need {keep} in --output, as in --output 'selection-{keep}.json'"
        )
    del limits["allocation"]  # there is one
    read = [each for each in (scores, mask, observations, *compare) if each is not None]
    result_file(output, read)
    loaded = None
    if mask is not None and model is not None:
        chosen = [queries.read_mask(mask, model, groups=limits["groups"])]
    else:
        assert scores is not None
        loaded = Scores.load(scores)
        if model is not None:
            queries.check_scores(loaded, model)
        with progress_bars(quiet) as progress:
            chosen = list(selection.nested(loaded, keep, progress=progress, **limits))
    record = Observations.load(observations) if observations is not None else None
    files = {output.replace("{keep}", str(one.keep)): one for one in chosen}
    for file in files:
        result_file(file, read)
    told = [_told(*each, loaded, record, explain, compare) for each in files.items()]
    for file, one in files.items():
        one.save(file)
    for value in told if not as_json else ():
        _show(value)
        say(f"{value['output']}: {value['keep']} of {value['num_experts']} experts in every layer")
    if record is not None and record.router.n_group > 1 and not as_json:
        say(
            "the router limits its choice to groups, which it scores anew after pruning: the "
            "shares that stay as before are upper bounds"
        )
    if as_json:
        print_json(told[0] if len(told) == 1 else {"selections": told})


def _told(
    file: str,
    chosen: Selection,
    scores: Scores | None,
    record: Observations | None,
    explain: bool,
    compare: tuple[str, ...],
) -> dict[str, Any]:
    """What there is to say of a selection."""
    value: dict[str, Any] = {
        "output": file,
        "keep": chosen.keep,
        "num_experts": chosen.num_experts,
        "groups": chosen.groups,
        "retained_share": {},
    }
    if scores is None:
        return value
    shares = selection.retained_share(scores, chosen)
    value["retained_share"] = {str(layer): share for layer, share in shares.items()}
    if explain:
        value["layers"] = [e.to_json() for e in selection.explain(scores, chosen, record)]
    others = {}
    for name in compare:
        other = queries.selection_like(chosen, name)
        layers = selection.compare(scores, chosen, other, record)
        others[name] = {
            "keep": other.keep,
            "criterion": other.criterion,
            "overlap": sum(layer.overlap for layer in layers) / max(len(layers), 1),
            "layers": [layer.to_json() for layer in layers],
        }
    return {**value, "compared": others} if others else value


def _show(value: dict[str, Any]) -> None:
    if "layers" in value:
        columns = ["layer", "share of the score kept", "last kept", "first dropped", "margin"]
        rows = [
            (
                layer["layer"],
                f"{layer['retained']:.1%}",
                *_margin(layer["margin"]),
                layer["unseen"],
                *_agreement(layer["agreement"]),
            )
            for layer in value["layers"]
        ]
        columns += ["kept unseen", *_AGREEMENT[: len(rows[0]) - 6]]
        print_table("", columns, rows)
    elif value["retained_share"]:
        rows = [(layer, f"{share:.1%}") for layer, share in value["retained_share"].items()]
        print_table("", ["layer", "share of the score kept"], rows)
    for name, other in value.get("compared", {}).items():
        rows = [
            (
                layer["layer"],
                f"{layer['overlap']:.1%}",
                f"{layer['retained']:.1%}",
                *_agreement(layer["agreement"]),
                _short(layer["missing"]),
            )
            for layer in other["layers"]
        ]
        print_table(
            f"{name}: {other['keep']} experts by {other['criterion']}, overlap "
            f"{other['overlap']:.1%}",
            [
                "layer",
                "overlap",
                "share of the score there",
                *_AGREEMENT[: len(rows[0]) - 4],
                "kept there only",
            ],
            rows,
        )


_AGREEMENT = ("routes as before", "tokens as before", "weight on kept")


def _margin(margin: dict[str, Any] | None) -> tuple[str, str, str]:
    if margin is None:
        return "-", "-", "-"
    return str(margin["kept"]), str(margin["dropped"]), f"{margin['relative']:.1%}"


def _agreement(agreement: dict[str, float] | None) -> tuple[str, ...]:
    if agreement is None:
        return ()
    return tuple(f"{agreement[name]:.1%}" for name in ("routes", "tokens", "weight"))


def _short(experts: tuple[int, ...], most: int = 8) -> str:
    shown = ", ".join(map(str, experts[:most]))
    return f"{shown}, ... ({len(experts)})" if len(experts) > most else shown or "-"
