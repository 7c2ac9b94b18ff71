"""The committed checkpoint: its form on disk, that it loads, and that it has learnt something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from easyep.demo_model import MODEL_DIRECTORY, REPORT, assessment, corpus
from easyep.demo_model.domains import DOMAINS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL_DIRECTORY, dtype=torch.float32).eval()


def read(name: str) -> Any:
    return json.loads((MODEL_DIRECTORY / name).read_text(encoding="utf-8"))


def test_config_says_what_other_engines_need() -> None:
    config = read("config.json")
    assert config["architectures"] == ["DeepseekV3ForCausalLM"]
    assert config["topk_method"] == "noaux_tc"
    assert config["scoring_func"] == "sigmoid"
    assert config["num_nextn_predict_layers"] == 1
    assert config["first_k_dense_replace"] == 1
    assert read("generation_config.json")["eos_token_id"] == 2


def test_layout_is_the_one_of_the_hub() -> None:
    weight_map = read("model.safetensors.index.json")["weight_map"]
    assert len(set(weight_map.values())) >= 2
    for layer in range(1, 6):
        for expert in range(32):
            for kind in ("gate_proj", "up_proj", "down_proj"):
                assert f"model.layers.{layer}.mlp.experts.{expert}.{kind}.weight" in weight_map
    for part in ("enorm", "hnorm", "eh_proj", "shared_head.norm", "shared_head.head"):
        assert f"model.layers.5.{part}.weight" in weight_map
    for file in set(weight_map.values()):
        with safe_open(MODEL_DIRECTORY / file, framework="pt") as shard:
            assert shard.metadata() == {"format": "pt"}
            for name in list(shard.keys()):
                assert weight_map[name] == file
                is_bias = name.endswith("e_score_correction_bias")
                assert shard.get_slice(name).get_dtype() == ("F32" if is_bias else "BF16")


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in MODEL_DIRECTORY.iterdir()) < 15e6


def test_loads_without_gaps() -> None:
    _, report = AutoModelForCausalLM.from_pretrained(MODEL_DIRECTORY, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert all(key.startswith("model.layers.5.") for key in report["unexpected_keys"])


@pytest.mark.parametrize("domain", DOMAINS)
def test_answers_most_questions(model: Any, domain: str) -> None:
    fast = AutoTokenizer.from_pretrained(MODEL_DIRECTORY)
    items = corpus.items(domain, "evaluation", 20)
    chats = [[{"role": "user", "content": item.prompt}] for item in items]
    inputs = fast.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=48)[:, inputs["input_ids"].shape[1] :]
    texts = fast.batch_decode(output, skip_special_tokens=True)
    right = [
        text.rstrip(".").endswith(item.answer) for text, item in zip(texts, items, strict=True)
    ]
    assert sum(right) >= 14


def test_drafts_of_the_mtp_layer_are_often_right() -> None:
    for domain, (main, ahead) in assessment.mtp_accuracy(MODEL_DIRECTORY, count=3).items():
        assert main > 0.8, domain
        assert ahead > 0.5, domain


def test_speculative_generation_gives_the_same_text(model: Any) -> None:
    fast = AutoTokenizer.from_pretrained(MODEL_DIRECTORY)
    chat = [{"role": "user", "content": "What is 47 + 38?"}]
    inputs = fast.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    model._keys_to_ignore_on_load_unexpected = {r"model\.layers\.5\."}
    plain = model.generate(**inputs, max_new_tokens=30)
    assert torch.equal(model.generate(**inputs, max_new_tokens=30, use_mtp=True), plain)


@pytest.mark.slow
def test_reported_accuracy_is_reproduced() -> None:
    pytest.importorskip("lm_eval")
    reported = json.loads(REPORT.read_text(encoding="utf-8"))["exact_match_percent"]
    measured = assessment.accuracies(MODEL_DIRECTORY, ROOT)
    for domain, accuracy in measured.items():
        assert accuracy == pytest.approx(reported[domain], abs=1.0)
