"""Selections on the unpruned model, loaded for evaluation."""

from dataclasses import replace

import pytest
import torch

import easyep
from easyep import masking
from easyep.errors import ArtifactError, SelectionError, UnsupportedModelError
from easyep.loading import load_model
from easyep.masking import load_masked, mask, masked
from easyep.resources import demo_model
from easyep.source import Source
from tests.tiny_models import build
from tests.tiny_models.choosing import choose_at_random

FLOAT = {"dtype": "float32", "device": "cpu"}


def logits_of(model):
    ids = torch.randint(2, 56, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return model(ids).logits


@pytest.mark.parametrize("groups", ["balanced", "flatten"])
@pytest.mark.parametrize("family", ["deepseek_v3", "qwen3_moe", "deepseek_v4", "jetmoe"])
def test_loaded_masked_is_the_pruned_checkpoint(tmp_path, family, groups):
    source = build(family, tmp_path / "source")
    # Groups matter to one of the families; 5 of 8 experts cannot be balanced.
    flat = groups == "flatten" and family == "deepseek_v3"
    selection = choose_at_random(source, 5 if flat else None, groups)
    pruned = easyep.rewrite(source, selection, tmp_path / "pruned").path
    found = logits_of(load_masked(source, selection, **FLOAT))
    expected = logits_of(load_model(pruned, **FLOAT))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_demo_model_answers_masked_as_it_does_pruned(tmp_path):
    """Every item of a task: what `easyep eval M --selection S` promises."""
    for groups in ("balanced", "flatten"):
        selection = choose_at_random(demo_model(), 16, groups, mtp=False)
        pruned = easyep.rewrite("demo", selection, tmp_path / groups, mtp="drop").path
        tasks = ["easyep_demo_math"]
        settings = {"limit": 8, "batch_size": 8, **FLOAT}
        one = easyep.evaluate("demo", tasks, selection=selection, **settings)
        other = easyep.evaluate(pruned, tasks, **settings)
        assert one.results == other.results
        answers = [
            [sample["resps"] for sample in each.harness["samples"]["easyep_demo_math"]]
            for each in (one, other)
        ]
        assert answers[0] == answers[1]


def test_after_the_context_the_model_is_as_before():
    source = Source.open("demo")
    model = load_model(demo_model(), **FLOAT)
    before = logits_of(model)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    selection = choose_at_random(demo_model(), 16)
    with masked(model, selection, source.architecture, source.layout):
        assert (logits_of(model) - before).abs().max() > 0.1
    assert torch.equal(logits_of(model), before)
    assert all(torch.equal(weights[name], now) for name, now in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())


def test_products_outside_of_routers_are_what_they_were():
    source = Source.open("demo")
    model = load_model(demo_model(), **FLOAT)
    with masked(model, choose_at_random(demo_model(), 16), source.architecture, source.layout):
        logits_of(model)
        assert torch.isfinite(torch.nn.functional.linear(torch.ones(2, 4), torch.ones(32, 4))).all()


def test_an_error_leaves_the_model_as_it_was(monkeypatch):
    source, model = Source.open("demo"), load_model(demo_model(), **FLOAT)
    before, seen = logits_of(model), []
    biases = masking._biases

    def fails_at_the_third(*arguments):
        seen.append(arguments)
        if len(seen) == 3:
            raise MemoryError
        return biases(*arguments)

    monkeypatch.setattr(masking, "_biases", fails_at_the_third)
    selection = choose_at_random(demo_model(), 16, mtp=False)
    with pytest.raises(MemoryError):
        mask(model, selection, source.architecture, source.layout)
    torch.testing.assert_close(logits_of(model), before, rtol=0, atol=0)


def test_what_cannot_be_masked(tmp_path):
    selection = choose_at_random(demo_model(), 16)
    with pytest.raises(ArtifactError, match="of another|not of"):
        load_masked(build("qwen3_moe", tmp_path / "m"), selection)
    uneven = {layer: tuple(range(16)) for layer in selection.layers}
    with pytest.raises(SelectionError, match="groups"):
        load_masked(demo_model(), replace(selection, layers=uneven), **FLOAT)
    source = Source.open("demo")
    with pytest.raises(UnsupportedModelError, match="router of layer"):
        mask(torch.nn.Linear(2, 2), selection, source.architecture, source.layout)
