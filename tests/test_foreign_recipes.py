"""A recipe or manifest of somebody else asks for nothing that only the user may allow."""

import json
from pathlib import Path

import pytest

import easyep
from easyep.errors import ArtifactError, EasyEPError
from easyep.pipeline import Pruned
from easyep.recipe import allowed, own_output
from easyep.redoing import Made
from tests.test_redoing import changed, run


@pytest.mark.parametrize("kind", ["recipe", "study"])
def test_code_of_the_model_needs_the_users_word(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "given.yaml"
    more = "study: s\ndomains: [math]\n" if kind == "study" else ""
    path.write_text(f"model: someone/model\n{more}trust_remote_code: true\n")
    with pytest.raises(ArtifactError, match="asks to run Python code that comes with the model"):
        easyep.run(path, output=tmp_path / "out")
    entries = allowed({"trust_remote_code": True}, path, trust_remote_code=True)
    assert entries == {"trust_remote_code": True}


def test_so_it_does_in_a_manifest(
    pruned: Pruned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = json.loads((pruned.path / "easyep.json").read_text())["recipe"]
    path = changed(pruned, tmp_path / "m", recipe={**recipe, "trust_remote_code": True})
    assert run("run", path, "--output", tmp_path / "out") == 1
    assert "give --trust-remote-code as well" in capsys.readouterr().err
    assert Made.load(path, trust_remote_code=True).recipe.trust_remote_code


@pytest.mark.parametrize(
    "output",
    [
        "/tmp/x",
        "../x",
        "~/x",
        "~root/x",
        "link/x",
        "notes.txt",
        "settings.json",
        "\0",
        "x" * 300,
        5,
    ],
)
def test_it_writes_below_the_current_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: object
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "link").symlink_to(tmp_path)
    (here / "notes.txt").write_text("mine")
    (here / "settings.json").write_text("{}")
    (here / "given.yaml").write_text(json.dumps({"model": "demo", "output": output}))
    monkeypatch.chdir(here)
    with pytest.raises(ArtifactError, match="choose it with --output"):
        easyep.run("given.yaml")
    assert run("run", "given.yaml") == 1
    # With an output of the user's own the next error comes: nothing to show.
    with pytest.raises(EasyEPError, match="demonstrations"):
        easyep.run("given.yaml", output=here / "out")


def test_its_own_results_it_writes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.json").write_text('{"study": {}}')
    for output in ("results.json", "runs/new"):
        assert own_output(output, "given.yaml") == output
