"""`easyep inspect` and `easyep list`: what there is."""

import click

from easyep import demonstrations, models
from easyep.cli import options
from easyep.cli.console import human_bytes, print_json, print_table


@click.command("inspect", epilog="\b\nExample:\n  easyep inspect demo")
@click.argument("model", metavar="M")
@options.common
def inspect_command(model: str, as_json: bool, quiet: bool, debug: bool) -> None:
    """Show what is in a checkpoint, and what pruning saves."""
    from easyep.queries import inspect

    found = inspect(model)
    if as_json:
        print_json(found.to_json())
        return
    facts = found.to_json()
    parts = facts.pop("bytes", {})
    savings = facts.pop("savings", [])
    print_table(
        model, ["what", "value"], [(k.replace("_", " "), _plain(v)) for k, v in facts.items()]
    )
    print_table("Bytes", ["part", "size"], [(k, human_bytes(v)) for k, v in parts.items()])
    if savings:
        print_table(
            "What pruning leaves",
            ["experts kept", "checkpoint", "share"],
            [(s["keep"], human_bytes(s["bytes"]), f"{s['fraction']:.0%}") for s in savings],
        )


@click.command("list", epilog="\b\nExample:\n  easyep list criteria")
@click.argument("what", metavar="domains|criteria|architectures|models|engines")
@options.common
def list_command(what: str, as_json: bool, quiet: bool, debug: bool) -> None:
    """List what easyep knows by name."""
    kinds = {
        "domains": _domains,
        "criteria": _criteria,
        "architectures": _architectures,
        "models": _models,
        "engines": _engines,
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

    rows: list[tuple[object, ...]] = [(name, spec.get(name).summary) for name in spec.names()]
    return ["name", "models"], rows


def _engines() -> tuple[list[str], list[tuple[object, ...]]]:
    from easyep.architectures.engines import ENGINES

    return ["name", "what it can load"], [(name, ENGINES[name].summary) for name in ENGINES]


def _models() -> tuple[list[str], list[tuple[object, ...]]]:
    rows: list[tuple[object, ...]] = [
        (alias, entry.get("hub", "comes with easyep")) for alias, entry in models.aliases().items()
    ]
    return ["name", "where"], rows


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        return _ranges(value) if all(type(v) is int for v in value) else ", ".join(map(str, value))
    return "-" if value is None else str(value)


def _ranges(numbers: list[int]) -> str:
    """Consecutive numbers as ``first-last``."""
    if numbers and numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2:
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(map(str, numbers)) or "none"
