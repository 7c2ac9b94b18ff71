"""Many pruned models, compared."""

import json
import shutil
from dataclasses import replace
from importlib import import_module

import pytest

import easyep
from easyep import study
from easyep.demonstrations import domain_file
from easyep.errors import ArtifactError, EvaluationError, UnknownNameError
from tests.cli.test_cli import run
from tests.tiny_models import build

pytestmark = pytest.mark.filterwarnings("ignore")  # lm-eval and what it imports

SMALL = {
    "study": "small",
    "model": "demo",
    "domains": ["math", "facts"],
    "tasks": "easyep_demo_{domain}",
    "criteria": ["easy-ep", "random"],
    "keep": [0.5],
    "groups": ["balanced"],
    "seeds": [0, 1],
    "wrong_domain": True,
    "limit": 8,
    "n_demos": 5,
    "dtype": "float32",
    "batch_size": 8,
}


def cell(criterion, domain, seed, accuracy):
    return study.Cell(criterion, domain, 16, "balanced", seed, 100, accuracy, 8)


def test_means_over_domains_and_spread_over_seeds():
    cells = [
        cell("random", "math", 0, 0.2),
        cell("random", "facts", 0, 0.4),
        cell("random", "math", 1, 0.6),
        cell("random", "facts", 1, 0.8),
        cell("easy-ep", "math", 0, 1.0),
    ]
    random, easy_ep = study.summarise(cells)
    assert random["mean"] == pytest.approx(0.5)
    assert random["spread"] == pytest.approx(0.4 / 2**0.5)
    assert random["domains"] == pytest.approx({"math": 0.4, "facts": 0.6})
    assert (easy_ep["mean"], easy_ep["spread"]) == (1.0, None)


def test_a_study_runs_and_goes_on_from_its_work_directory(capsys, tmp_path, monkeypatch):
    recipe = tmp_path / "study.yaml"
    recipe.write_text(json.dumps(SMALL))  # JSON is YAML
    words = ["run", recipe, "--work-dir", tmp_path / "work", "--output", tmp_path / "r.json"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "wrong domain" in out
    result = json.loads((tmp_path / "r.json").read_text())
    found = {(c["criterion"], c["domain"], c["seed"]) for c in result["cells"]}
    one = [("full", d, 0) for d in SMALL["domains"]]
    two = [(c, d, 0) for c in ("easy-ep", "wrong domain") for d in SMALL["domains"]]
    three = [("random", d, s) for d in SMALL["domains"] for s in (0, 1)]
    assert found == {*one, *two, *three}
    assert len(result["cells"]) == len(found)

    monkeypatch.setattr("easyep.study.evaluations.evaluate_checkpoint", None)
    code, again, _ = run(capsys, *words)
    assert code == 0
    assert again == out


def test_bytes_are_those_that_pruning_writes_however_it_is_measured():
    written = easyep.plan("demo", domain="math", keep=0.5).rewriting
    choices = {k: SMALL[k] for k in ("study", "model", "dtype", "n_demos")}
    planned = {**choices, "domains": ["math"], "criteria": ["easy-ep"], "keep": [0.5], "limit": 1}
    planned["groups"] = ["balanced"]
    for how in ({"tasks": SMALL["tasks"]}, {"held_out": "eval/data/demo_{domain}.jsonl"}):
        cells = study.run(study.Study.from_mapping({**planned, **how}))
        assert [cell.bytes for cell in cells] == [
            written.bytes_before,
            written.bytes_after,
        ]


def test_a_study_in_memory_varies_what_is_shown(tmp_path):
    """Every axis at once; each row of the summary has its own measures and spread."""
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text('{"text": "Once there lived a fox."}\n')
    planned = study.Study.from_mapping(
        {
            **{k: SMALL[k] for k in ("study", "model", "domains", "limit", "dtype")},
            "held_out": "eval/data/demo_{domain}.jsonl",
            "criteria": ["easy-ep", "random"],
            "keep": [0.25, 0.125],  # balanced cannot keep 4 of 32
            "groups": ["balanced", "flatten"],
            "shown": ["own", "response", "input", "foreign", "mixed", "others"],
            "foreign": str(foreign),
            "n_demos": [1, 3],
            "draws": [0, 1],
            "reroute": [True, False],
        }
    )
    cells = study.run(planned, work_dir=tmp_path / "work")
    assert len(cells) == 2 + (6 * 2 * 2 + 1) * 3 * 2 * 2
    rows = study.to_json(planned, cells)["summary"]
    assert len(rows) == 1 + (6 * 2 + 1) * 3 * 2
    shown = {row["shown"] for row in rows if row["criterion"] == "easy-ep"}
    assert shown == set(planned.shown)
    assert {row["shown"] for row in rows if row["criterion"] == "random"} == {"nothing"}
    assert rows[0]["kl"] == 0.0
    assert all(row["kl"] > 0 and row["loss"] > 0 for row in rows[1:])
    assert all(row["spread"] is not None for row in rows if row["criterion"] == "easy-ep")
    assert {cell.shown for cell in cells if cell.domain == "math"} >= {"facts"}
    assert {(c.keep, c.groups) for c in cells[2:]} == {
        (8, "balanced"),
        (8, "flatten"),
        (4, "flatten"),
    }
    assert study.run(planned, work_dir=tmp_path / "work") == cells


def test_what_is_no_study():
    with pytest.raises(UnknownNameError, match="did you mean 'criteria'"):
        study.Study.from_mapping({**SMALL, "criterions": []})
    with pytest.raises(ArtifactError, match="two domains"):
        study.Study.from_mapping({**SMALL, "domains": ["math"]})
    with pytest.raises(ArtifactError, match="either 'tasks' or 'held_out'"):
        study.Study.from_mapping({k: v for k, v in SMALL.items() if k != "tasks"})
    with pytest.raises(ArtifactError, match="must hold {domain}"):
        study.Study.from_mapping({**SMALL, "demos": "math.jsonl"})
    with pytest.raises(ArtifactError, match="'reroute: false' needs 'held_out'"):
        study.Study.from_mapping({**SMALL, "reroute": [True, False]})
    with pytest.raises(ArtifactError, match="foreign among 'shown'"):
        study.Study.from_mapping({**SMALL, "foreign": "x.jsonl"})
    with pytest.raises(ArtifactError, match="'wrong_domain' needs own"):
        study.Study.from_mapping({**SMALL, "wrong_domain": True, "shown": ["mixed"]})


def test_diffusion_models_have_no_next_token(tmp_path):
    model = build("diffusion_gemma", tmp_path / "m")
    held_out = {k: v for k, v in SMALL.items() if k != "tasks"} | {"held_out": "{domain}.jsonl"}
    with pytest.raises(EvaluationError, match="is a diffusion model"):
        study.run(study.Study.from_mapping({**held_out, "model": str(model)}))


def test_domains_that_are_paths_get_no_files_beside_them(tmp_path):
    for name in ("facts", "math"):
        shutil.copy(domain_file(name, "demo"), tmp_path)
    planned = study.Study.from_mapping(
        {
            "study": "paths",
            "model": "demo",
            "domains": [str(tmp_path / name) for name in ("facts", "math")],
            "demos": "{domain}.jsonl",
            "held_out": "{domain}.jsonl",
            "shown": ["input"],
            "n_demos": [1],
            "limit": 1,
            "device": "cpu",
        }
    )
    assert len(study.run(planned)) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["facts.jsonl", "math.jsonl"]


STUDIES = ["criteria", "demonstrations", "domains", "kinds", "rerouting"]


@pytest.mark.parametrize("name", STUDIES)
def test_the_studies_that_come_with_easyep_can_be_planned(root, name):
    from easyep.recipe import read_yaml

    planned = study.Study.from_mapping(read_yaml(root / "recipes" / "studies" / f"{name}.yaml"))
    assert len(planned.draws) >= 3


def test_every_criterion_from_one_run_of_the_model(root, tmp_path, monkeypatch):
    """The table of all criteria: the model is loaded once, and never for what is saved already."""
    from easyep import loading
    from easyep.criteria import BUILT_IN
    from easyep.recipe import read_yaml

    loaded, chosen = [], {}

    def load_model(*args, **kwargs):
        loaded.append(args)
        return load(*args, **kwargs)

    class Evaluations:
        """Remembers what would be pruned and evaluated."""

        def __init__(self, *args):
            pass

        def full(self, domain):
            return {"accuracy": 1.0, "samples": 8, "bytes": 100}

        def pruned(self, selection, domain, *, reroute):
            chosen[selection.criterion, selection.keep, selection.groups, domain] = selection
            return self.full(domain)

    load = loading.load_model
    monkeypatch.setattr(loading, "load_model", load_model)
    monkeypatch.setattr(import_module("easyep.study.run"), "Evaluations", Evaluations)
    recipe = read_yaml(root / "recipes" / "demo-criteria.yaml")
    assert set(recipe["criteria"]) == BUILT_IN
    some = {"domains": ["math", "facts"], "keep": [0.5], "groups": ["balanced"], "n_demos": 3}
    table = study.Study.from_mapping({**recipe, **some, "seeds": [0], "wrong_domain": False})
    cells = study.run(table, work_dir=tmp_path)
    assert len(loaded) == 1
    assert len(chosen) == 2 * len(BUILT_IN)
    assert {cell.criterion for cell in cells} == {"full", *BUILT_IN}
    easy_ep, reap = (chosen[c, 16, "balanced", "math"] for c in ("easy-ep", "reap"))
    assert easy_ep.layers != reap.layers

    loaded.clear()
    again = replace(table, criteria=("reap", "man"), keep=(0.25,), groups=("flatten",))
    assert len(study.run(again, work_dir=tmp_path)) == 2 + 4
    assert not loaded
