"""The documentation as a site: whole, without the network, and true to the commands."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from docs.making import command_pages, pipeline_figure
from tests.test_readme import pages


@pytest.fixture(scope="module")
def site(root, tmp_path_factory) -> Path:
    """The site, built with warnings as errors."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there_and_loads_nothing_from_elsewhere(root, site):
    for page in pages(root):
        if page.name != "README.md":
            assert (site / page.relative_to(root / "docs")).with_suffix(".html").exists(), page
    built = list(site.rglob("*.html"))
    assert len(built) > len(pages(root))
    for page in built:
        loaded = re.findall(
            r'<(?:script|img|link|iframe)[^>]*(?:src|href)="([^"]+)"', page.read_text()
        )
        assert not [url for url in loaded if re.match(r"(https?:)?//", url)], page


def test_functions_are_told_from_their_docstrings(site):
    text = (site / "python.html").read_text()
    for words in ("easyep.pipeline.prune", "easyep.artifacts.RoutedTokens", "EasyEPError"):
        assert words in text


@pytest.mark.parametrize("name", command_pages.names())
def test_command_pages_have_every_option(name):
    text = command_pages.page(name)
    command, _ = command_pages.find(name)
    assert text.startswith(f"# easyep {name}\n")
    assert (command.help or "").split("\n")[0] in text
    for param in command.params:
        for option in param.opts if param.param_type_name == "option" else []:
            assert option in text, option


def test_the_figure_is_what_its_program_draws():
    assert pipeline_figure.FIGURE.read_text() == pipeline_figure.draw()


def test_the_navigation_has_every_page_once(root):
    nav = yaml.safe_load((root / "mkdocs.yml").read_text())["nav"]
    named = [page for part in nav for those in part.values() for page in those]
    files = [page for page in named if isinstance(page, str)]
    assert sorted(files) == sorted(path.name for path in (root / "docs").glob("*.md"))


def python_blocks(root: Path) -> list[tuple[str, str]]:
    """Every block of Python of README and docs, but those after `<!-- a sketch -->`."""
    return [
        (page.name, textwrap.dedent(block))
        for page in pages(root)
        for block in re.findall(
            r"(?<!<!-- a sketch -->\n)(?<=\n) *```python\n(.*?)```", page.read_text(), re.S
        )
    ]


def test_python_blocks_run(root, tmp_path):
    # In a process of their own: criteria that they add stay known until it ends.
    programs = {name: "" for name, _ in python_blocks(root)}
    for name, block in python_blocks(root):
        programs[name] += block + "\n"
    assert len(programs) >= 3
    program = ["import easyep", "easyep.observe('demo', domain='math', output='observations')"]
    program += [
        f"exec(compile({text!r}, {name!r}, 'exec'), {{}})" for name, text in programs.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for written in ("demo-math-in-python", "demo-math-quickly"):
        assert (tmp_path / written / "easyep.json").exists()
