"""What is installed is whole: the wheel away from the repository, and what it declares."""

import json
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain

import pytest
import yaml


def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def pins(path):
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("==") for line in lines)


def version(text):
    return tuple(int(part) for part in text.split("."))


def test_pinned_versions_are_within_what_is_declared(root):
    lines = [
        *project(root)["dependencies"],
        *chain(*project(root)["optional-dependencies"].values()),
    ]
    declared = {}
    for line in lines:
        if found := re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", line):
            declared[found[1]] = version(found[2])
    pinned = {n: v for n, v in pins(root / "constraints.txt").items() if n in declared}
    assert {"torch", "transformers", "lm-eval"} <= set(pinned)
    for name, exact in pinned.items():
        assert version(exact) >= declared[name], name


def test_the_citation_names_the_licence_and_the_paper(root):
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert citation["license"] == project(root)["license"]
    assert citation["title"] == project(root)["name"]
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


@pytest.mark.slow
def test_the_wheel_works_away_from_the_repository(root, tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, root], check=True)
    [built] = tmp_path.glob("easyep-*.whl")
    wheel = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", wheel, built], check=True)
    assert (wheel / "easyep" / "py.typed").is_file()
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
