"""How much a plain installation brings along, and how much a command loads before it answers."""

import re
import resource
import subprocess
import sys
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# Distributions without any extra, easyep and those of torch's GPU builds not counted.
MOST_DISTRIBUTIONS = 45


def project(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return found


def needed(requirements: list[str]) -> set[str]:
    """The names of all distributions that these need, extras included, and what those need."""
    found: dict[str, set[str]] = {}
    left = [Requirement(each) for each in requirements]
    while left:
        each = left.pop()
        name, extras = canonicalize_name(each.name), {"", *each.extras}
        if extras <= found.get(name, set()):
            continue
        found.setdefault(name, set()).update(extras)
        for inner in map(Requirement, metadata.requires(name) or []):
            marker = inner.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                left.append(inner)
    return set(found)


def test_a_plain_installation_brings_little(root):
    names = {
        name
        for name in needed(project(root)["dependencies"])
        if not re.match("nvidia-|cuda-|triton", name)
    }
    assert {"torch", "transformers", "tokenizers", "click"} <= names
    assert len(names) <= MOST_DISTRIBUTIONS, sorted(names)
    heavy = {"pandas", "scipy", "matplotlib", "datasets", "lm-eval", "deepspeed", "aiohttp"}
    assert not names & heavy


def lower_bounds(lines: list[str]) -> dict[str, str]:
    found = {}
    for each in map(Requirement, lines):
        if each.name != "easyep":
            (bound,) = each.specifier
            assert bound.operator == ">=", each
            found[canonicalize_name(each.name)] = bound.version
    return found


def declared_bounds(root: Path) -> dict[str, str]:
    """The lower bounds of the dependencies and of all extras."""
    extras = chain(*project(root)["optional-dependencies"].values())
    return lower_bounds([*project(root)["dependencies"], *extras])


def pinned(file: Path) -> dict[str, str]:
    """Name -> version of what a constraints file names, always one version."""
    lines = [line for line in file.read_text().splitlines() if line and line[0] != "#"]
    found = {}
    for each in map(Requirement, lines):
        (pin,) = each.specifier
        assert pin.operator == "==", each
        found[canonicalize_name(each.name)] = pin.version
    return found


def test_pinned_versions_are_within_what_is_declared(root):
    pins, bounds = pinned(root / "constraints.txt"), declared_bounds(root)
    assert {"torch", "transformers", "lm-eval"} <= pins.keys() & bounds.keys()
    for name in pins.keys() & bounds.keys():
        assert Version(pins[name]) >= Version(bounds[name]), name


def test_the_lowest_versions_are_those_declared(root):
    """torch apart, of which a build without CUDA is taken, and two engines that pin their own."""
    bounds, lowest = declared_bounds(root), pinned(root / "constraints-lowest.txt")
    assert lowest.pop("torch") == pinned(root / "constraints.txt")["torch"]
    assert lowest == {k: v for k, v in bounds.items() if k not in ("torch", "vllm", "sglang")}


def test_an_extra_asks_for_no_other_version_than_the_rest(root):
    declared = project(root)
    lines = [*declared["dependencies"], *chain(*declared["optional-dependencies"].values())]
    bounds: dict[str, set[str]] = {}
    for each in map(Requirement, lines):
        bounds.setdefault(canonicalize_name(each.name), set()).add(str(each.specifier))
    assert not {name: found for name, found in bounds.items() if len(found) > 1}


def test_what_is_installed_here_is_within_the_bounds(root):
    for name, bound in lower_bounds(project(root)["dependencies"]).items():
        assert Version(metadata.version(name)) >= Version(bound), name


def load(program: str, *words: str) -> tuple[int, float]:
    """How many modules a program loads, and the seconds of processor time that it takes."""
    told = "\nprint(len(sys.modules), file=sys.stderr)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}{told}", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(done.stderr.split()[-1]), seconds


COMMAND = """
from easyep.cli import main
try: main(sys.argv[1:])
except SystemExit: pass
"""


@pytest.mark.parametrize(
    ("program", "words", "most_modules", "most_seconds"),
    [
        ("import easyep", [], 100, 0.5),
        (COMMAND, ["--version"], 300, 1.5),
        (COMMAND, ["list", "criteria"], 700, 4.0),
    ],
    ids=["import", "version", "list"],
)
def test_commands_answer_soon(program, words, most_modules, most_seconds):
    """The limits of modules are about 1.6 times what was seen, those of seconds 6 times."""
    tries = [load(program, *words) for _ in range(2)]
    assert max(modules for modules, _ in tries) <= most_modules
    assert min(seconds for _, seconds in tries) <= most_seconds
