"""A page for each command, written from the command itself while the site is built.

A hook of mkdocs: `on_config` fills the folders of the navigation, `on_files` adds the pages.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from easyep.cli import COMMANDS, app
from easyep.cli.demos import SUBCOMMANDS
from easyep.cli.sections import sections


def names() -> list[str]:
    """Every command as it is typed behind ``easyep``, those of groups behind their group."""
    return [
        full
        for name in COMMANDS
        for full in (name, *(f"demos {sub}" for sub in SUBCOMMANDS if name == "demos"))
    ]


def find(name: str) -> tuple[click.Command, click.Context]:
    """A command by what is typed behind ``easyep``, and its context.

    Raises:
        KeyError: there is no such command.
    """
    command: click.Command = app
    context = click.Context(app, info_name="easyep")
    for word in name.split():
        assert isinstance(command, click.Group)
        found = command.get_command(context, word)
        if found is None:
            raise KeyError(name)
        command, context = found, click.Context(found, info_name=word, parent=context)
    return command, context


def page(name: str) -> str:
    """The Markdown page of a command."""
    command, context = find(name)
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = [f"# easyep {name}", "", str(command.help or ""), "", "```text", usage, "```", ""]
    example = str(command.epilog or "").replace("\b", "").strip().split("\n")
    if len(example) > 1:
        lines += ["```", *(line.strip() for line in example[1:]), "```", ""]
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            line = str(find(f"{name} {sub}")[0].help or "").partition("\n")[0]
            lines.append(f"* [{sub}]({name}-{sub}.md): {line}")
        return "\n".join([*lines, ""])
    for title, options in sections(command):
        lines += [f"## {title}", "", "| option | |", "| --- | --- |"]
        lines += [_row(option, context) for option in options]
        lines.append("")
    return "\n".join(lines)


def _row(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None
    names, text = (part.replace("|", "\\|").replace("\n", " ") for part in record)
    return f"| `{names}` | {text} |".replace("<", "&lt;")


def on_config(config: Any) -> Any:
    """Put the command pages, and every decision, where the navigation names their folder."""
    decisions = sorted((Path(config.docs_dir) / "decisions").glob("*.md"))
    pages = {
        "commands/": [f"commands/{_slug(name)}.md" for name in names()],
        "decisions/": [f"decisions/{path.name}" for path in decisions],
    }
    for part in config.nav:
        for entries in part.values():
            for entry in entries:
                for title, folder in entry.items() if isinstance(entry, dict) else ():
                    entry[title] = pages[folder]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    for name, text in _generated(config):
        files.append(text_file(config, name, text))
    return files


def _generated(config: Any) -> Iterator[tuple[str, str]]:
    for name in names():
        yield f"commands/{_slug(name)}.md", page(name)


def text_file(config: Any, name: str, text: str) -> Any:
    """A page of the site that is no file."""
    from mkdocs.structure.files import File

    return File.generated(config, name, content=text)


def _slug(name: str) -> str:
    return name.replace(" ", "-")
