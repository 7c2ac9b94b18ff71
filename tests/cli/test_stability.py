"""`easyep stability` as somebody types it."""

import json

import pytest

from tests.cli.test_cli import run
from tests.overlap.test_study import observed


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("gsm8k", "aime", "mbpp")):
        observed(number, domain=name).save(name)
    return tmp_path


def test_a_table_json_and_a_figure(capsys, made):
    words = ["stability", "--observations", "math=gsm8k", "math=aime", "mbpp", "--keep", "4"]
    words += ["--demonstrations", "2", "--samples", "3", "--output", "s.json"]
    code, out, _ = run(capsys, *words, "--figure", "s.png")
    assert code == 0
    assert "two disjoint samples" in out
    assert "one domain" in out
    value = json.loads((made / "s.json").read_text())
    assert [s["domain"] for s in value["sets"]] == ["math", "math", "mbpp"]
    assert (made / "s.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, *words, "--json")
    assert json.loads(out) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "does not exist"),
        (["gsm8k", "--demonstrations", "100"], "no sample can have 100"),
        (["gsm8k", "--criterion", "aimer"], "does not look at what was observed"),
        (["gsm8k", "--keep", "1"], "routed to 2"),
        (["gsm8k", "--output", "gsm8k"], "gsm8k"),
    ],
)
def test_errors(capsys, made, words, message):
    code, out, err = run(capsys, "stability", "--observations", *words)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
