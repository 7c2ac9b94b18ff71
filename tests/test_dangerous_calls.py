"""Nothing in the package turns data into code, except where it is named here."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import easyep

PACKAGE = Path(easyep.__file__).parent

# Where a danger is the purpose. The second runs a fixed script, on a folder that it made.
PLACES = {"subprocess": {"demonstrations/programs.py", "passing_folder.py"}}

MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "subprocess"}
CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.hub.load"),
    *(f"builtins.{name}" for name in ("eval", "exec", "compile", "__import__")),
    *(f"os.{name}" for name in dir(os) if name.startswith(("exec", "spawn"))),
    *(f"yaml.{name}" for name in ("load", "load_all", "full_load", "full_load_all")),
    *(f"yaml.{name}" for name in ("unsafe_load", "unsafe_load_all")),
}


def dangers(source: str) -> Iterator[str]:
    """What in a module could run what it reads, by its name."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                names[each.asname or each.name.partition(".")[0]] = (
                    each.name if each.asname else each.name.partition(".")[0]
                )
                yield from {each.name.partition(".")[0]} & MODULES
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            yield from {node.module.partition(".")[0]} & MODULES
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        called = names.get(first, first) + dot + rest
        given = {each.arg: ast.unparse(each.value) for each in node.keywords}
        if called in CALLS:
            yield called
        if called == "torch.load" and given.get("weights_only") != "True":
            yield called
        for option in ("shell", "allow_pickle"):
            if given.get(option, "False") != "False":
                yield option


def test_the_package_has_none_elsewhere() -> None:
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for danger in dangers(path.read_text(encoding="utf-8")):
            found.setdefault(danger, set()).add(path.relative_to(PACKAGE).as_posix())
    assert found == PLACES


@pytest.mark.parametrize(
    ("source", "danger"),
    [
        ("import pickle", "pickle"),
        ("from subprocess import run", "subprocess"),
        ("import torch\ntorch.load(p)", "torch.load"),
        ("import torch as t\nt.load(p, weights_only=False)", "torch.load"),
        ("from torch import load as read\nread(p)", "torch.load"),
        ("import yaml\nyaml.load(t, Loader)", "yaml.load"),
        ("from yaml import unsafe_load\nunsafe_load(t)", "yaml.unsafe_load"),
        ("eval(t)", "eval"),
        ("exec(t, {})", "exec"),
        ("import os\nos.system(t)", "os.system"),
        ("run(t, shell=True)", "shell"),
        ("import numpy as np\nnp.load(p, allow_pickle=True)", "allow_pickle"),
    ],
)
def test_each_is_noticed(source: str, danger: str) -> None:
    assert [*dangers(source)] == [danger]


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(p, weights_only=True)",
        "model.eval()",
        "import yaml\nyaml.safe_load(t)",
        "import re\nre.compile(t)",
        "run(t, shell=False)",
    ],
)
def test_what_is_safe_passes(source: str) -> None:
    assert not [*dangers(source)]
