"""What is installed is whole: the wheel away from the repository, and what it declares."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy
import pytest
import yaml


def test_the_citation_names_the_licence_and_the_paper(root):
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert citation["license"] == project["license"]
    assert citation["title"] == project["name"]
    assert any("2504.06792" in reference["url"] for reference in citation["references"])


def run_away(wheel, folder, *words):
    """Run the wheel's easyep in `folder`, with nothing of the repository in sight."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "easyep", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> Path:
    """The wheel, unpacked: a folder as an installer leaves it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, root], check=True)
    [built] = folder.glob("easyep-*.whl")
    site = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", site, built], check=True)
    return site


@pytest.mark.slow
def test_the_wheel_works_away_from_the_repository(root, wheel, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    shown = ["--model", "demo", "--domain", "math", "--n-demos", "4"]
    run_away(wheel, away, "prune", *shown, "--keep", "0.5", "--output", "out")
    manifest = json.loads((away / "out" / "easyep.json").read_text())
    assert manifest["selection"]["keep"] == 16
    run_away(wheel, away, "verify", "out", "--source", "demo")
    run_away(wheel, away, "report", "out")
    for what in ("domains", "criteria", "architectures", "models", "engines"):
        names = json.loads(run_away(wheel, away, "list", what, "--json"))[what]
        here = json.loads(run_away(root, away, "list", what, "--json"))[what]
        assert names == here


# What a user's own checked program may rely on.
TYPED = """
from typing import assert_type

import numpy as np
import numpy.typing as npt

import easyep


@easyep.criterion("louder", reduce="mean")
def louder(tokens: easyep.RoutedTokens) -> npt.NDArray[np.float32]:
    return tokens.weights * tokens.output_norms**2


def halved(model: str) -> easyep.Selection:
    try:
        observations = easyep.observe(model, domain="math")
        scores = easyep.score(observations, criterion="louder")
        assert_type(scores, easyep.Scores)
        selection = easyep.select(scores, keep=0.5, groups="balanced")
        assert_type(selection.layers[1], tuple[int, ...])
        return selection
    except easyep.EasyEPError as error:
        raise SystemExit(str(error)) from None


rewritten = easyep.rewrite("demo", halved("demo"), "out")
assert_type(rewritten.bytes_after, int)
assert_type(easyep.verify("out", source="demo").ok, bool)
pruned = easyep.prune("demo", domain=["math", "code:0.5"], keep=0.5, output="again")
assert_type(pruned.selection, easyep.Selection)
assert_type(easyep.inspect("demo").experts, int)
assert_type(easyep.compare("demo", "out", domain="math"), easyep.Comparison)
"""
WRONG = """
import easyep

easyep.select("scores.json", keep="half")
easyep.no_such_name
"""


@pytest.mark.slow
def test_a_user_s_program_is_checked_against_the_installed_package(wheel, tmp_path):
    venv = [sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"]
    subprocess.run(venv, check=True)
    [site] = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "easyep").symlink_to(wheel / "easyep")
    (site / "numpy").symlink_to(Path(numpy.__file__).parent)  # torch would take minutes

    python = ["--python-executable", tmp_path / "env" / "bin" / "python"]

    def checked(program: str) -> str:
        (tmp_path / "program.py").write_text(program)
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--config-file=", *python, "program.py"],
            cwd=tmp_path,
            env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MYPYPATH")},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    assert checked(TYPED).startswith("Success")
    told = checked(WRONG)
    assert 'Argument "keep" to "select" has incompatible type "str"; expected "float"' in told
    assert 'Module has no attribute "no_such_name"' in told
