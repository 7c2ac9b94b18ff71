"""`easyep inspect` and `easyep list`: what there is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from easyep import demonstrations, models
from easyep.cli import options
from easyep.cli.console import print_json, print_table
from easyep.cli.sections import command
from easyep.cli.values import KEEP
from easyep.reporting.numbers import size

if TYPE_CHECKING:
    from easyep.checkpoint.inspection import Inspection


@command("inspect", epilog="\b\nExample:\n  easyep inspect demo --keep 0.5 --keep 24")
@click.argument("model", metavar="M")
@click.option(
    "--keep",
    type=KEEP,
    multiple=True,
    help="What to tell the savings of; may be given several times. [default: 0.75, 0.5, 0.25]",
)
@options.common
def inspect_command(
    model: str, keep: tuple[float, ...], as_json: bool, quiet: bool, debug: bool
) -> None:
    """Show what is in a checkpoint, and what pruning saves."""
    from easyep.queries import inspect

    found = inspect(model, keep) if keep else inspect(model)
    if as_json:
        print_json(found.to_json())
        return
    print_table(model, ["what", "value"], _facts(found))
    rows = [
        (
            part.name,
            part.tensors,
            size(part.bytes),
            _share(part.bytes, found.bytes),
            _formats(part.formats, part.bytes),
        )
        for part in found.parts
    ]
    print_table("Parts", ["part", "tensors", "size", "share", "formats"], rows)
    if found.savings:
        print_table(
            "What pruning leaves" + (", MTP layers included" if found.mtp_layers else ""),
            ["experts kept", "of", "checkpoint", "share", "saved"],
            [
                (
                    saving.keep,
                    found.experts,
                    size(saving.bytes),
                    _share(saving.bytes, found.bytes),
                    size(found.bytes - saving.bytes),
                )
                for saving in found.savings
            ],
        )


def _facts(found: "Inspection") -> list[tuple[str, str]]:
    """What there is to know beside the sizes."""
    family = found.architecture
    if family != found.model_type:
        family += f" (model_type {found.model_type})"
    layers = f"{found.layers}, routed experts in {_ranges(found.moe_layers)}"
    for name, numbers in found.second_layers.items():
        layers += f", {name} experts in {_ranges(numbers)}"
    groups = f"{found.n_group}, of which a token uses {found.topk_group}"
    return [
        ("family", family),
        ("layers", layers),
        ("experts", f"{found.experts} per layer, {found.top_k} per token"),
        ("groups", groups if found.n_group > 1 else "none"),
        ("routing", ", ".join(f"{_plain(k)} {_plain(v)}" for k, v in found.routing.items())),
        ("MTP layers", f"number {_ranges(found.mtp_layers)}" if found.mtp_layers else "none"),
        ("quantization", found.quantization or "none"),
        (
            "weights",
            f"{size(found.bytes)}, {found.tensors} tensors in {found.shards} "
            f"file{'s' if found.shards > 1 else ''}",
        ),
    ]


def _share(part: float, whole: float) -> str:
    share = part / whole if whole else 0.0
    if 0 < share < 0.001:
        return "<0.1%"
    return ">99.9%" if 0.999 < share < 1 else f"{share:.1%}"


def _formats(formats: Mapping[str, int], whole: int) -> str:
    if len(formats) == 1:
        return next(iter(formats))
    return ", ".join(f"{dtype} {_share(count, whole)}" for dtype, count in formats.items())


@command("list", epilog="\b\nExample:\n  easyep list criteria")
@click.argument(
    "what", metavar="domains|criteria|architectures|models|engines|backends|accelerators"
)
@options.common
def list_command(what: str, as_json: bool, quiet: bool, debug: bool) -> None:
    """List what easyep knows by name."""
    kinds = {
        "domains": _domains,
        "criteria": _criteria,
        "architectures": _architectures,
        "models": _models,
        "engines": _engines,
        "backends": _backends,
        "accelerators": _accelerators,
    }
    if what not in kinds:
        raise click.UsageError(f"list what? one of {', '.join(kinds)}, not {what!r}")
    columns, rows = kinds[what]()
    if as_json:
        print_json({what: [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        print_table("", columns, rows)


def _domains() -> tuple[list[str], list[tuple[object, ...]]]:
    rows: list[tuple[object, ...]] = []
    folders = {entry.get("calibration", ""): alias for alias, entry in models.aliases().items()}
    for folder in sorted(folders):
        for name in demonstrations.domains(folder):
            path = demonstrations.domain_file(name, folder)
            model = folders[folder] if folder else "any"
            rows.append((name, model, len(demonstrations.read(path))))
    return ["name", "for model", "demonstrations"], rows


def _criteria() -> tuple[list[str], list[tuple[object, ...]]]:
    from easyep.criteria import CRITERIA

    return ["name", "what it scores"], [(name, CRITERIA[name].summary) for name in CRITERIA]


def _architectures() -> tuple[list[str], list[tuple[object, ...]]]:
    from easyep.architectures import spec

    found = [spec.get(name) for name in spec.names()]
    rows: list[tuple[object, ...]] = [(a.name, a.summary, a.refuse or "") for a in found]
    return ["name", "models", "refused"], rows


def _engines() -> tuple[list[str], list[tuple[object, ...]]]:
    from easyep.architectures.engines import ENGINES

    return ["name", "what it can load"], [(name, ENGINES[name].summary) for name in ENGINES]


def _backends() -> tuple[list[str], list[tuple[object, ...]]]:
    from easyep.evaluation.engines import BACKENDS, SUMMARIES

    return ["name", "what it measures"], [(name, SUMMARIES.get(name, "")) for name in BACKENDS]


def _accelerators() -> tuple[list[str], list[tuple[object, ...]]]:
    from easyep.evaluation.roofline.machine import accelerators, machine

    rows: list[tuple[object, ...]] = []
    for each in map(machine, accelerators()):
        peaks = ", ".join(f"{name} {peak / 1e12:.4g}" for name, peak in each.peak.items())
        bandwidth = f"{size(each.bandwidth)}/s"
        rows.append((each.name, size(each.memory), bandwidth, peaks, each.source))
    return ["name", "memory", "bandwidth", "TFLOP/s", "source"], rows


def _models() -> tuple[list[str], list[tuple[object, ...]]]:
    rows: list[tuple[object, ...]] = [
        (alias, entry.get("hub", "comes with easyep")) for alias, entry in models.aliases().items()
    ]
    return ["name", "where"], rows


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not stated" if value is None else str(value).replace("_", " ")


def _ranges(numbers: Sequence[int]) -> str:
    """Consecutive numbers as ``first-last``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = (f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return ", ".join(words) or "none"
