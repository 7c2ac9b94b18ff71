"""The README says what holds."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from benchmarks import distributed, large_machines
from docs.making import study_page
from easyep.cli import app
from easyep.reporting import stability_table, study_table
from tests.engines import table as engines_table

TABLES = {
    "means": study_table.means,
    **study_page.TABLES,
    "stability": stability_table.by_demonstrations,
    "engines": engines_table.table,
    "large machines": large_machines.table,
    "processes": distributed.table,
}


def pages(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def test_tables_are_what_was_measured(root):
    found = 0
    for page in pages(root):
        marked = re.findall(
            r"<!-- (.+?): (\S+\.json) -->\n(.*?)<!-- end -->", page.read_text(), re.S
        )
        for kind, file, shown in marked:
            result = json.loads((root / file).read_text())
            assert shown.strip() == TABLES[kind](result)
            found += 1
    assert found


def commands(root: Path) -> list[str]:
    lines = [
        line.split("  #")[0].strip()
        for page in pages(root)
        for block in re.findall(r"```\n(.*?)```", page.read_text(), re.S)
        for line in block.splitlines()
    ]
    return [line for line in lines if line.startswith("easyep ")]


def test_commands_exist_with_their_options(root):
    lines = commands(root)
    assert len(lines) > 8
    for line in lines:
        name, *words = shlex.split(line)[1:]
        command = app.get_command(click.Context(app), name)
        assert command is not None, line
        command.make_context(name, words)  # raises for unknown options and missing ones


def test_python_blocks_name_what_exists(root):
    import easyep

    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.S)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
        for name in re.findall(r"easyep\.(\w+)", block):
            assert hasattr(easyep, name), name


def test_the_file_map_is_the_package(root):
    text = (root / "README.md").read_text()
    listed = set(re.findall(r"^  ([\w.]+)/? ", text.split("```\neasyep/\n")[1], re.M))
    package = root / "easyep"
    rooms = {p.name for p in package.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    files = {p.name for p in package.glob("*.py") if not p.name.startswith("__")}
    small = {"errors.py", "registry.py", "progress.py", "resources.py", "atomic.py", "choices.py"}
    small |= {"clock.py", "memory.py", "yaml_text.py", "addresses.py", "time_limit.py"}
    small |= {"passing_folder.py", "processor.py", "panics.py", "given_files.py"}
    small |= {"allocation_limit.py", "strict_json.py"}
    assert rooms | files == listed | small


def test_every_benchmark_is_listed(root):
    text = (root / "benchmarks" / "README.md").read_text()
    scripts = {path.name for path in (root / "benchmarks").glob("*.py")}
    assert scripts == set(re.findall(r"`(\w+\.py)`", text))
    run = set(re.findall(r"python benchmarks/(\w+\.py)", (root / "Makefile").read_text()))
    told = set(re.findall(r"^\| `(\w+\.py)` .*\| yes", text, re.M))
    assert told == run - {"mutation.py", "room_coverage.py"}


def test_links_lead_somewhere(root):
    link = re.compile(r"\]\((?!https?:)([^)#]+)")
    found = [(page, target) for page in pages(root) for target in link.findall(page.read_text())]
    assert len(found) > 50
    assert not [(page.name, to) for page, to in found if not (page.parent / to).exists()]


@pytest.mark.parametrize("name", ["demo", "demo-quick", "demo-criteria"])
def test_recipes_can_be_read(root, name):
    from easyep.recipe import read_yaml
    from easyep.study import Study

    Study.from_mapping(read_yaml(root / "recipes" / f"{name}.yaml"))


def test_the_recipe_for_many_machines_can_be_read(root):
    from easyep.recipe import Recipe, read_yaml

    choices = read_yaml(root / "recipes" / "deepseek-v3-nodes.yaml")
    assert choices.pop("output")
    assert Recipe.from_mapping(choices).runner == "deepspeed"
