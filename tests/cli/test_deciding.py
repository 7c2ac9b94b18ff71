"""Scoring and selecting as somebody types them, on made-up records."""

import json

import pytest

from easyep.artifacts import Scores, Selection
from tests import records
from tests.cli.test_cli import run


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Two observations and the scores of one, in the current directory."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("math", "code")):
        records.observations(experts=8, seed=number, domain=name, n_group=2, topk_group=2).save(
            name
        )
    return tmp_path


def scored(capsys, *words, output="scores.json"):
    code, _, err = run(capsys, "score", "--observations", *words, "--output", output)
    assert code == 0, err
    return Scores.load(output)


def test_every_criterion_from_one_record(capsys, made):
    from easyep.criteria import BUILT_IN, needs_record

    for name in sorted(BUILT_IN):
        if needs_record(name) or name == "random":
            assert scored(capsys, "math", "--criterion", name).criterion == name
            code, _, err = run(
                capsys, "select", "--scores", "scores.json", "--keep", "4", "--output", "s.json"
            )
            assert code == 0, err
            assert Selection.load("s.json").criterion == name


def test_weights_need_no_record(capsys, made):
    words = ["score", "--model", "demo", "--criterion", "router-norm", "--output", "w.json"]
    assert run(capsys, *words)[0] == 0
    assert sorted(Scores.load("w.json").layers) == [1, 2, 3, 4]
    assert run(capsys, *words, "--mtp", "score")[0] == 0
    assert sorted(Scores.load("w.json").layers) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "option", [["--keep", "4"], ["--align", "7"], ["--protect", "1:0-3"], ["--forbid", "2"]]
)
def test_a_mask_leaves_nothing_to_decide(capsys, made, option):
    words = ["select", "--mask", "mask.json", "--model", "demo", "--output", "s.json"]
    code, _, err = run(capsys, *words, *option)
    assert code == 2
    assert f"{option[0]} needs --scores" in err


def test_one_point_nought_is_neither_all_nor_one(capsys, made):
    scored(capsys, "math")
    words = ["select", "--scores", "scores.json", "--keep", "1.0", "--output", "s.json"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "not 1.0; one expert is 1" in err


def test_max_min(capsys, made):
    scores = scored(capsys, "math", "code:0.5", "--mix", "max-min")
    assert [domain.weight for domain in scores.domains] == [1.0, 0.5]
    words = ["select", "--scores", "scores.json", "--keep", "4", "--output", "s.json"]
    assert run(capsys, *words)[0] == 0


def test_several_budgets(capsys, made):
    scored(capsys, "math")
    words = ["select", "--scores", "scores.json", "--keep", "0.75", "--keep", "4"]
    code, _, err = run(capsys, *words, "--output", "s.json")
    assert (code, "{keep} in --output" in err) == (2, True)
    code, out, _ = run(capsys, *words, "--output", "s-{keep}.json", "--json")
    assert code == 0
    told = json.loads(out)["selections"]
    assert [one["output"] for one in told] == ["s-6.json", "s-4.json"]
    large, small = Selection.load("s-6.json"), Selection.load("s-4.json")
    assert all(set(small.layers[i]) < set(large.layers[i]) for i in large.layers)


def test_explain_and_compare(capsys, made):
    scored(capsys, "math")
    scored(capsys, "code", output="code.json")
    select = ["select", "--scores", "scores.json", "--keep", "4"]
    assert run(capsys, *select, "--groups", "flatten", "--output", "free.json")[0] == 0
    how = ["--explain", "--compare", "free.json", "--compare", "code.json"]
    code, out, _ = run(capsys, *select, *how, "--output", "s.json")
    assert code == 0
    assert "margin" in out
    assert "free.json: 4 experts by easy-ep, overlap" in out
    assert "routes as before" not in out
    how += ["--observations", "math"]
    code, out, _ = run(capsys, *select, *how, "--output", "s.json")
    assert "routes as before" in out
    code, out, _ = run(capsys, *select, *how, "--output", "s.json", "--json")
    value = json.loads(out)
    assert {layer["layer"] for layer in value["layers"]} == {1, 2}
    code_selection = Selection.load("s.json")
    first = value["compared"]["code.json"]["layers"][0]
    theirs = set(code_selection.layers[1]) - set(first["added"]) | set(first["missing"])
    assert first["overlap"] == len(theirs & set(code_selection.layers[1])) / 4


def test_protect_and_forbid(capsys, made):
    scored(capsys, "math")
    words = ["select", "--scores", "scores.json", "--keep", "4", "--output", "s.json"]
    assert run(capsys, *words, "--protect", "1:0,7", "--forbid", "2:3")[0] == 0
    chosen = Selection.load("s.json")
    assert {0, 7} <= set(chosen.layers[1])
    assert 3 not in chosen.layers[2]
    assert run(capsys, *words, "--protect", "super-experts")[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--protect", "9:0"], 1, "there is no layer 9"),
        (["--protect", "x"], 2, "names no experts"),
        (["--forbid", "5-3:1"], 2, "end is before its beginning"),
        (["--protect", "x.json"], 1, "x.json does not exist"),
        (["--allocation", "global"], 2, "load in no engine"),
        (["--groups", "some"], 2, "unknown groups 'some'"),
        (["--compare", "nothing.json"], 1, "nothing.json does not exist"),
        (["--explain", "--observations", "nothing"], 1, "does not exist"),
        (["--observations", "nothing"], 2, "is for --explain or --compare"),
        (["--compare", "s.json"], 1, "would overwrite s.json"),
    ],
)
def test_what_cannot_be_selected(capsys, made, words, code, message):
    scored(capsys, "math")
    select = ["select", "--scores", "scores.json", "--keep", "4", "--output", "s.json"]
    found, out, err = run(capsys, *select, *words)
    assert (found, out) == (code, "")
    assert message in err
    assert not (made / "s.json").exists()


def test_what_cannot_be_scored(capsys, made):
    assert run(capsys, "score", "--output", "s.json")[0] == 2
    words = ["score", "--observations", "math", "--output", "s.json"]
    code, _, err = run(capsys, *words, "--criterion", "aimer")
    assert (code, "say of which model (--model M)" in err) == (1, True)
    code, _, err = run(capsys, *words, "--model", "demo")
    assert (code, "are of made-up, not of demo" in err) == (1, True)
