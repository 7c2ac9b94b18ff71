"""The options that several commands share; their defaults are those of `Recipe`."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import click

from easyep import runner_names
from easyep.artifacts.scores import MIXES
from easyep.artifacts.selection import GROUP_MODES
from easyep.cli.logged import wish_log
from easyep.cli.values import (
    ALLOCATION,
    DEEPSPEED_FILE,
    FORBIDDEN,
    KEEP,
    MEMORY_LIMITS,
    PROTECTED,
    RUNNER,
    SIZE,
    Checked,
    NewDirectory,
    Number,
    one_of,
)
from easyep.cli.voice import VOICE
from easyep.demonstrations.conversation import STYLES
from easyep.demonstrations.rendering import DEMO_ORDERS
from easyep.recipe import DTYPES, MTP_CHOICES, RECORDS, Recipe
from easyep.scoring import TOKENS
from easyep.selection import ALLOCATIONS

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Recipe)}


def _set(name: str) -> Callable[[click.Context, click.Parameter, bool], bool]:
    """A callback that says to `VOICE` what an option says."""

    def callback(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
        setattr(VOICE, name, value)
        return value

    return callback


def _choice(
    name: str, valid: Sequence[str], text: str, kind: Checked | None = None
) -> Decorator[Any]:
    return click.option(
        f"--{name}",
        type=kind or one_of(name, valid),
        metavar="|".join(valid),
        default=DEFAULTS[name.replace("-", "_")],
        show_default=True,
        help=text,
    )


def _several(*options: Decorator[Any]) -> Decorator[Any]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def count(*names: str, at_least: int = 1, metavar: str = "N", **settings: Any) -> Decorator[Any]:
    """An option that takes a whole number, with its default if it has one."""
    number = click.IntRange(min=at_least)
    shown = "default" in settings
    return click.option(*names, type=number, metavar=metavar, show_default=shown, **settings)


model = click.option(
    "--model",
    required=True,
    metavar="M",
    help="A directory, a short name (`easyep list models`), or a repository id[@revision].",
)
output_directory = click.option(
    "--output", required=True, type=NewDirectory(), help="A directory that does not exist yet."
)
output_file = click.option("--output", required=True, metavar="FILE", help="Where to write.")
seed = count(
    "--seed",
    default=DEFAULTS["seed"],
    at_least=0,
    help="For random choices.",
)
run_programs = click.option(
    "--run-programs",
    is_flag=True,
    help="Do checks that run programs of answers, with limits, on this machine.",
)
trust_remote_code = click.option(
    "--trust-remote-code", is_flag=True, help="Run Python code that lies in the checkpoint."
)
dry_run = click.option(
    "--dry-run", is_flag=True, help="Check everything and show the plan; write nothing."
)
mtp = _choice(
    "mtp",
    MTP_CHOICES,
    "Multi-token-prediction layers: choose their experts by their own scores, by the last "
    "layer's choice, or leave the layers out; auto scores them if transformers loads the result "
    "without a complaint.",
)
max_shard_size = click.option(
    "--max-shard-size",
    type=SIZE,
    metavar="SIZE",
    default=DEFAULTS["max_shard_size"],
    show_default="5GB",
    help="Bytes of tensors per weight file, at most; an expert is never split over two.",
)
style = _choice(
    "style", STYLES, "Answers with their thinking or without it; auto asks the template."
)
demo_choice = _several(
    count(
        "--n-demos",
        default=DEFAULTS["n_demos"],
        help="Demonstrations per domain.",
    ),
    count(
        "--tokens-per-domain",
        help="At most N tokens of each domain, so that long ones do not outweigh the others.",
    ),
    count(
        "--max-length",
        help="Tokens per demonstration; longer ones lose their end. [default: the model's limit]",
    ),
    _choice("demo-order", DEMO_ORDERS, "Which demonstrations are taken."),
    style,
    seed,
)
computing = _several(
    click.option(
        "--device",
        metavar="NAME",
        default="auto",
        show_default=True,
        help="Where it runs: auto, cpu, cuda:0, ...",
    ),
    click.option(
        "--dtype",
        type=one_of("dtype", DTYPES),
        metavar="|".join(DTYPES),
        default="auto",
        show_default=True,
        help="What it computes in; auto is the checkpoint's own type.",
    ),
)
running = _several(
    _choice("runner", runner_names.choices(), "Where the model's weights live.", RUNNER),
    click.option(
        "--deepspeed-config",
        type=DEEPSPEED_FILE,
        metavar="FILE",
        help="DeepSpeed's settings, for offloading parameters to main memory or NVMe.",
    ),
    computing,
    count(
        "--batch-size",
        default=DEFAULTS["batch_size"],
        help="Demonstrations per forward pass; changes memory and speed only.",
    ),
    click.option(
        "--max-memory",
        type=MEMORY_LIMITS,
        metavar="SIZE",
        help="What a run may take: 6GiB of main memory, or by device 0=70GiB,cpu=100GiB. "
        "[default: what is free]",
    ),
    count(
        "--peer-timeout",
        metavar="SECONDS",
        default=DEFAULTS["peer_timeout"],
        help="Several processes: how long one is waited for before it counts as hung.",
    ),
    click.option(
        "--mask-ratio",
        type=Number(0, 1, min_open=True),
        multiple=True,
        metavar="SHARE",
        help="For diffusion models: the share of response tokens that is hidden; repeatable. "
        "[default: 0.25, 0.5, 0.75]",
    ),
    _choice(
        "records",
        RECORDS,
        "Keep what every token did, or only sums for criteria; auto keeps it where it takes at "
        "most half of the room that there is.",
    ),
    trust_remote_code,
)
tokens = _choice("tokens", TOKENS, "Which tokens count.")
criterion = click.option(
    "--criterion",
    default=DEFAULTS["criterion"],
    show_default=True,
    metavar="NAME",
    help="How experts are scored (`easyep list criteria`).",
)
mix = _choice(
    "mix",
    MIXES,
    "Several domains: keep by the mean of their scores, or the set whose worst domain keeps most.",
)
keep = click.option(
    "--keep",
    type=KEEP,
    default=DEFAULTS["keep"],
    show_default=True,
    help="Experts to keep in each layer.",
)
keep_several = click.option(
    "--keep",
    type=KEEP,
    multiple=True,
    default=[DEFAULTS["keep"]],
    show_default=True,
    help="Experts to keep in each layer; several give nested selections.",
)
groups = _choice(
    "groups",
    GROUP_MODES,
    "Group-limited routers: keep as many experts in each group, or choose freely and leave a "
    "router without groups.",
)
limits = _several(
    count(
        "--align",
        default=DEFAULTS["align"],
        help="Round the number of experts to a multiple of N.",
    ),
    groups,
    _choice(
        "allocation",
        ALLOCATIONS,
        "The same number in every layer: what engines can load.",
        ALLOCATION,
    ),
    click.option(
        "--protect",
        type=PROTECTED,
        multiple=True,
        metavar="EXPERTS",
        help="Keep these: 3:17,40 in layer 3, 3-5:17 in layers 3 to 5, 17,40-42 in every layer, a "
        "JSON file, or super-experts, those with outputs beyond all others; repeatable.",
    ),
    click.option(
        "--forbid",
        type=FORBIDDEN,
        multiple=True,
        metavar="EXPERTS",
        help="Drop these; super-experts is no form of it, the others are.",
    ),
)
serving = _several(
    click.option(
        "--engine",
        multiple=True,
        metavar="NAME",
        help="An engine that is to load the result (`easyep list engines`); repeatable. A number "
        "of experts that it cannot load is refused.",
    ),
    count(
        "--tensor-parallel",
        default=DEFAULTS["tensor_parallel"],
        help="Ranks over which the engine splits each matrix.",
    ),
    count(
        "--expert-parallel",
        default=DEFAULTS["expert_parallel"],
        help="Ranks over which the engine spreads the experts.",
    ),
)
common = _several(
    click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output."),
    click.option(
        "--quiet",
        is_flag=True,
        is_eager=True,
        callback=_set("quiet"),
        help="Warnings and errors only, no progress.",
    ),
    click.option(
        "--verbose",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_set("verbose"),
        help="Say when each step begins and ends.",
    ),
    click.option(
        "--log-file",
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=wish_log,
        help="Append every message to a file, with its time, and what --verbose says.",
    ),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
)
