"""Second sets of experts: JetMoE's in the attention, seen; ERNIE's for images, not reached."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import easyep
from easyep.criteria import CRITERIA, needs_record
from easyep.observation.in_memory import observe_in_memory
from easyep.scoring import summable
from easyep.source import Source
from tests.observation.test_families import model_of
from tests.observation.test_recorder import sequence
from tests.test_observing import Sentences
from tests.tiny_models import build


@torch.no_grad()
def test_attention_experts_equal_the_float64_reference():
    model, demo = model_of("jetmoe"), sequence(20, 60)
    found = observe_in_memory(model, [demo])
    exact = copy.deepcopy(model).double()
    layers = exact.model.layers
    seen: dict[int, dict[str, torch.Tensor]] = {i: {} for i in range(len(layers))}
    for i, layer in enumerate(layers):
        norm, experts = layer.input_layernorm, layer.self_attention.experts

        def before(module, args, output, mine=seen[i]):
            mine["h"], mine["x"] = args[0][0], output[0]

        def reduce(values, topology, mine=seen[i], original=experts.reduce):
            mine["fetched"] = values[0]  # [T, k, width], a slot per chosen expert
            return original(values, topology)

        norm.register_forward_hook(before)
        experts.reduce = reduce
    exact.model(torch.from_numpy(demo.input_ids)[None], use_cache=False)
    assert sorted(found) == list(range(2 * len(layers)))
    for i, layer in enumerate(layers):
        record, experts = found[len(layers) + i], layer.self_attention.experts
        for token in range(len(demo)):
            h, x, fetched = (seen[i][name][token] for name in ("h", "x", "fetched"))
            logits = experts.router.layer.weight @ x
            chosen = logits.topk(experts.top_k).indices.tolist()
            total = sum(math.exp(logits[e]) for e in chosen)
            after, expected = h.clone(), {}
            for slot, expert in enumerate(chosen):
                gate = math.exp(logits[expert]) / total
                output = experts.output_linear.weight[expert] @ fetched[slot]
                expected[expert] = (gate, float(output.square().sum().sqrt()))
                after = after + gate * output
            ids = record.expert_ids[token].tolist()
            assert sorted(ids) == sorted(chosen)
            gates, norms = zip(*(expected[e] for e in ids), strict=True)
            np.testing.assert_allclose(record.weights[token], gates, rtol=1e-4)
            np.testing.assert_allclose(record.output_norms[token], norms, rtol=1e-4)
            shift = 1 - float(torch.nn.functional.cosine_similarity(h, after, dim=0))
            np.testing.assert_allclose(record.residual_shift[token], shift, rtol=2e-3, atol=1e-8)


def demos(path: Path) -> Path:
    lines = [
        {"input_ids": sequence(n, 60, seed=n).input_ids.tolist(), "response_start": n // 2}
        for n in (14, 20)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("runner", ["memory", "stream"])
@pytest.mark.parametrize("criterion", ["easy-ep", "reap", "hope"])
def test_attention_experts_are_pruned_by_what_they_do(runner, criterion, tmp_path: Path):
    model = build("jetmoe", tmp_path / "model")
    choices = {"demos": str(demos(tmp_path / "text.jsonl")), "runner": runner}
    observations = easyep.observe(model, output=tmp_path / "seen", dtype="float32", **choices)
    scores = easyep.score(observations, criterion=criterion)
    selection = easyep.select(scores, keep=0.5)
    layout = Source.open(model).layout
    assert sorted(selection.layers) == sorted(layout.layers)
    easyep.rewrite(model, selection, tmp_path / "pruned")
    assert Source.open(tmp_path / "pruned").router.num_experts == selection.keep


@pytest.mark.parametrize("mode", ["full", "none"])
def test_experts_for_images_are_said_to_be_unreached(mode, tmp_path: Path):
    model = build("ernie4_5_vl_moe", tmp_path / "model")
    heard = Sentences()
    observations = easyep.observe(
        model,
        demos=str(demos(tmp_path / "text.jsonl")),
        output=tmp_path / "seen",
        dtype="float32",
        records=mode,
        progress=heard,
    )
    source = Source.open(model)
    assert sorted(observations.layers) == sorted(source.layout.layers)
    unreached = observations.unreached()
    for layer in source.layout.second_layers:
        assert len(unreached[layer]) == source.router.num_experts
    assert any("the vision experts of" in text for text in heard.said)
    for name in CRITERIA:
        if needs_record(name) and (mode == "full" or summable(name)):
            scores = easyep.score(observations, criterion=name)
            assert all(np.isfinite(layer).all() for layer in scores.layers.values())
    selection = easyep.select(easyep.score(observations), keep=0.5)
    for layer in source.layout.second_layers:
        assert list(selection.layers[layer]) == list(range(selection.keep))


def test_second_sets_are_chosen_by_weights_too(tmp_path: Path):
    model = build("ernie4_5_vl_moe", tmp_path / "model")
    choices: dict[str, Any] = {"criterion": "router-norm", "keep": 0.5, "protect": ["4:7"]}
    done = easyep.prune(model, output=tmp_path / "pruned", **choices)
    layout = Source.open(model).layout
    assert layout.second_layers == (4, 5)
    assert sorted(done.selection.layers) == sorted(layout.layers)
    assert 7 in done.selection.layers[4]
    assert done.verification.ok
