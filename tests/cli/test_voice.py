"""How much is said, where it goes, and how commands end."""

import importlib
import os
import re
import subprocess
import sys

import click
import pytest

from easyep import cli
from easyep.cli import COMMANDS, app
from easyep.cli.demos import SUBCOMMANDS
from easyep.errors import ArtifactError

SMALL = ["prune", "--model", "demo", "--domain", "math", "--n-demos", "2", "--max-length", "20"]
LEAVES = [[name] for name in COMMANDS if name != "demos"] + [["demos", sub] for sub in SUBCOMMANDS]


def run(capsys, *words) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_quiet_and_verbose(capsys, tmp_path):
    code, out, err = run(capsys, *SMALL, "--output", tmp_path / "a", "--quiet")
    assert (code, "16 of 32 experts" in out) == (0, True)
    assert "were longer than the limit" in err  # a warning
    assert "checks passed" not in err
    assert "done in" not in err
    code, _, err = run(capsys, *SMALL, "--output", tmp_path / "b", "--verbose")
    assert "checks passed" in err
    assert "done in" in err
    assert "done in" not in run(capsys, *SMALL, "--output", tmp_path / "c")[2]


def test_the_log_has_what_was_said_and_when(capsys, tmp_path):
    log = tmp_path / "logs" / "easyep.log"
    words = ["--quiet", "--log-file", log]
    assert run(capsys, *SMALL, "--output", tmp_path / "a", *words)[0] == 0
    first = log.read_text()
    assert "WARNING 2 of 2 demonstrations of math were longer" in first
    assert "checks passed" in first
    assert "DEBUG" in first
    assert run(capsys, "verify", tmp_path / "nowhere", *words)[0] == 1
    assert log.read_text().startswith(first)
    assert "ERROR" in log.read_text().removeprefix(first)
    run(capsys, "list", "models")
    assert " list\n" not in log.read_text()  # as the first line of that command would be


@pytest.mark.parametrize("log", ["out", "out/log", "out/deep/log"])
def test_a_log_does_not_lie_in_a_new_output(capsys, tmp_path, log):
    words = [*SMALL, "--output", tmp_path / "out", "--log-file", tmp_path / log]
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert "choose another file" in err
    assert not list(tmp_path.iterdir())


def test_nor_in_the_output_that_a_recipe_names(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("{model: demo, domain: math, output: mine}")
    code, _, err = run(capsys, "run", "recipe.yaml", "--log-file", "mine/log")
    assert code == 2
    assert "lies in the output mine" in err
    assert not (tmp_path / "mine").exists()
    (tmp_path / "study.yaml").write_text("{study: s, model: demo, domains: [math], output: r.json}")
    (tmp_path / "r.json").write_text("{}")
    code, _, err = run(capsys, "run", "study.yaml", "--log-file", "r.json")
    assert (code, "is the output itself" in err) == (2, True)
    assert (tmp_path / "r.json").read_text() == "{}"
    assert run(capsys, "run", "nothing.yaml", "--log-file", "log")[0] == 1
    assert "nothing.yaml does not exist" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("there", [True, False])
def test_wrong_usage_makes_no_log(capsys, tmp_path, there):
    """What was wrong may have been the output, which a log would be in the way of."""
    (tmp_path / "out").mkdir()
    log = tmp_path / "out" / "log" if there else tmp_path / "new" / "log"
    words = ["prune", "--model", "demo", "--keep", "few", "--output", tmp_path / "out"]
    assert run(capsys, *words, "--log-file", log)[0] == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


def test_a_selection_does_not_take_the_place_of_its_log(capsys, tmp_path):
    words = ["select", "--scores", "x.json", "--output", tmp_path / "x-{keep}.json"]
    code, _, err = run(capsys, *words, "--log-file", tmp_path / "x-8.json")
    assert (code, "is the output itself" in err) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written(capsys, tmp_path):
    code, out, err = run(capsys, "list", "models", "--log-file", tmp_path)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "choose another --log-file" in err


def test_a_log_on_a_full_disk_ends_and_the_command_does_not(capsys):
    code, out, err = run(capsys, "list", "models", "--verbose", "--log-file", "/dev/full")
    assert (code, "deepseek-r1" in out) == (0, True)
    assert err == "the log ends here, since it cannot be written: No space left on device\n"


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_ends_with_the_same_codes(capsys, monkeypatch, words):
    assert run(capsys, *words, "--help")[0] == 0
    code, out, err = run(capsys, *words, "--no-such-option")
    assert (code, out) == (2, "")
    assert "No such option" in err
    for error, expected in ((ArtifactError("wrong"), 1), (KeyboardInterrupt(), 130)):

        def fail(self, ctx, error=error):
            raise error

        monkeypatch.setattr(click.Command, "invoke", fail)
        code, out, err = run(capsys, *words, *_needed(words))
        assert (code, out, err.strip().count("\n")) == (expected, "", 0)


def _needed(words: list[str]) -> list[str]:
    """What a command does not start without."""
    command = app.get_command(click.Context(app), words[0])
    for word in words[1:]:
        command = command.get_command(click.Context(command), word)
    given = []
    for param in command.params:
        if param.required:
            given += ["x"] if isinstance(param, click.Argument) else [param.opts[0], "x"]
    return given


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_help_has_an_example_and_sections(capsys, words):
    out = run(capsys, *words, "--help")[1]
    assert "\n  Example" in out
    assert "\nMessages:\n" in out
    assert f"easyep {' '.join(words)}" in out.rpartition("\n  Example")[2]


def python(*words, **environment) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "easyep", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_width_and_colour():
    assert max(map(len, python("list", "engines", COLUMNS="60").splitlines())) <= 60
    assert max(map(len, python("list", "criteria").splitlines())) <= 120
    help_of_prune = python("prune", "--help", COLUMNS="50").partition("\n  Example")[0]
    assert max(map(len, help_of_prune.splitlines())) <= 50
    assert "\x1b" not in python("list", "engines")  # no terminal
    coloured = python("list", "engines", FORCE_COLOR="1", NO_COLOR="")
    assert "\x1b[" in coloured
    plain = python("list", "engines", FORCE_COLOR="1", NO_COLOR="1")
    assert not re.search("\x1b\\[[0-9;]*3[0-7]m", plain)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(capsys, shell):
    code, out, _ = run(capsys, "completion", shell)
    assert code == 0
    assert "_EASYEP_COMPLETE" in out


def test_completion_completes():
    def complete(words: str) -> list[str]:
        last = str(len(words.split(" ")) - 1)
        out = python(COMP_WORDS=words, COMP_CWORD=last, _EASYEP_COMPLETE="bash_complete")
        return [line.partition(",")[2] for line in out.splitlines()]

    assert complete("easyep pr") == ["prune"]
    assert "--criterion" in complete("easyep prune --cr")
    assert complete("easyep demos sh") == ["show"]


def test_wrong_shell(capsys):
    assert run(capsys, "completion", "tcsh")[0] == 2


def test_every_option_of_a_section_exists():
    from easyep.cli.sections import _TITLES

    known = set()
    for name, (module, _) in COMMANDS.items():
        command = getattr(importlib.import_module(f"easyep.cli.{module}"), f"{name}_command")
        known |= {opt for p in command.get_params(click.Context(command)) for opt in p.opts}
    assert _TITLES.keys() <= known


@pytest.mark.parametrize(
    "words",
    [
        ["prune", "--model", "demo", "--domain", "math"],
        ["eval", "demo"],
        ["bench", "demo"],
        ["compare", "demo", "demo", "--domain", "math"],
    ],
    ids=lambda words: words[0],
)
def test_a_type_that_is_none_is_wrong_usage(capsys, words):
    code, out, err = run(capsys, *words, "--dtype", "nonsense")
    assert (code, out) == (2, "")
    assert "unknown dtype 'nonsense' (valid: auto, " in err
