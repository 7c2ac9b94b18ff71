"""Recipes in Python: a criterion of five lines beside EASY-EP, and a model with code of its own."""

import json

import numpy as np
import pytest

import easyep
from easyep.criteria import CRITERIA
from easyep.errors import ArtifactError, UnknownNameError
from easyep.reporting import study_figures

PLAN = {
    "study": "mine beside EASY-EP",
    "model": "demo",
    "domains": ["math"],
    "held_out": "eval/data/demo_{domain}.jsonl",
    "criteria": ["easy-ep", "mine", "random"],
    "seeds": [0, 1],
    "limit": 4,
    "n_demos": 4,
    "dtype": "float32",
    "batch_size": 4,
}


def test_a_criterion_of_this_process_in_a_study_and_its_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(CRITERIA, "_things", dict(CRITERIA._things))

    @easyep.criterion("mine", reduce="mean")
    def mine(tokens):
        return tokens.weights**2 * tokens.output_norms

    file = tmp_path / "mine.json"
    found = easyep.run(PLAN, output=file, work_dir=tmp_path / "work")
    assert json.loads(file.read_text()) == json.loads(json.dumps(found))
    rows = {row["criterion"]: row for row in found["summary"]}
    assert set(rows) == {"full", "easy-ep", "mine", "random"}
    assert rows["random"]["spread"] is not None

    (drawn,) = study_figures.drawn(found)
    assert drawn.title == "Accuracy and KL by criterion"
    accuracy, kl = drawn.figure.axes
    for axes, measure, scale in ((accuracy, "mean", 100.0), (kl, "kl", 1.0)):
        assert [label.get_text() for label in axes.get_xticklabels()] == [*PLAN["criteria"]]
        heights = [bar.get_height() for bar in axes.patches]
        wanted = [scale * rows[name][measure] for name in PLAN["criteria"]]
        np.testing.assert_allclose(heights, wanted, rtol=1e-12)


def test_a_recipe_of_one_model(tmp_path):
    recipe = tmp_path / "one.yaml"
    recipe.write_text("model: demo\ndomain: [math]\nn_demos: 2\ndtype: float32\nkeep: 0.5\n")
    with pytest.raises(ArtifactError, match="needs an output"):
        easyep.run(recipe)
    done = easyep.run(recipe, output=tmp_path / "pruned")
    assert done.path == tmp_path / "pruned"
    assert done.selection.keep == 16
    again = easyep.run(done.path / "easyep.json", output=tmp_path / "again")
    assert again.selection.layers == done.selection.layers


def test_what_is_no_recipe(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        easyep.run(tmp_path / "none.yaml")
    with pytest.raises(UnknownNameError, match="did you mean 'criteria'"):
        easyep.run({**PLAN, "criterias": ["easy-ep"]})
