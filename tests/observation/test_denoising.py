"""Diffusion models at several shares of hidden tokens, against float64 and one block at a time."""

import copy
import json
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import easyep
from easyep.artifacts import Observations, RoutedTokens, TokenSequence
from easyep.diffusion import recorded_tokens
from easyep.errors import ArtifactError, UnsupportedModelError
from easyep.loading import load_model
from easyep.observation.denoising import Denoising
from easyep.observation.in_memory import observe_in_memory
from easyep.runners import whole as whole_runner
from easyep.source import Source
from tests.observation import llada_code
from tests.observation.test_families import _layer, model_of, ordered
from tests.observation.ways import WAYS
from tests.tiny_models import build

RATIOS = (0.25, 0.75)
LENGTH, PROMPT, BLOCK, MASK = 23, 6, 8, 63


def demo(seed: int = 0) -> TokenSequence:
    ids = np.random.default_rng(seed).integers(2, 60, LENGTH)
    return TokenSequence(ids, np.arange(LENGTH) >= PROMPT)


def how(kind: str, mask: int | None = MASK) -> Denoising:
    return Denoising(kind, RATIOS, mask, vocabulary=60, block=BLOCK)


def with_code(family: str, path: Path) -> Path:
    """The tiny checkpoint of a LLaDA family with code of its own."""
    build(family, path)
    shutil.copy(llada_code.__file__, path / "modeling_llada.py")
    config = json.loads((path / "config.json").read_text())
    own = "Llada2" if family == "llada2_moe" else "Llada"
    config["auto_map"] = {
        "AutoConfig": f"modeling_llada.{own}Config",
        "AutoModelForCausalLM": f"modeling_llada.{own}",
    }
    config["mask_token_id"] = MASK
    (path / "config.json").write_text(json.dumps(config))
    if family == "llada2_moe":  # built with queries only in the place of queries, keys and values
        torch.manual_seed(0)
        model = llada_code.Llada2(llada_code.Llada2Config(**config))
        tensors = {
            name: (torch.randn_like(each) * each.shape[-1] ** -0.5).contiguous()
            for name, each in model.state_dict().items()
        }
        for old in path.glob("model*safetensors*"):
            old.unlink()
        save_file(tensors, path / "model.safetensors", {"format": "pt"})
    return path


@cache
def llada(family: str, folder: Path) -> Any:
    path = with_code(family, folder / family)
    return load_model(path, dtype="float32", device="cpu", trust_remote_code=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("llada")


def test_a_greater_share_hides_more_and_only_the_response():
    sequence, denoising = demo(), how("full")
    few, many = (denoising.corrupted(sequence, r) == MASK for r in RATIOS)
    assert few.sum() == round(0.25 * (LENGTH - PROMPT))
    assert many.sum() == round(0.75 * (LENGTH - PROMPT))
    assert not many[:PROMPT].any()
    assert many[few].all()
    assert np.array_equal(few, how("full").corrupted(sequence, 0.25) == MASK)
    plain = TokenSequence(sequence.input_ids, np.zeros(LENGTH, dtype=bool))
    assert (denoising.corrupted(plain, 1.0) == MASK).all()
    noise = how("canvas", None).corrupted(sequence, 0.75)
    assert (noise[:PROMPT] == sequence.input_ids[:PROMPT]).all()
    assert (noise != sequence.input_ids).any()
    assert noise.max() < 60


@torch.no_grad()
def rows_of(model: Any, ids: np.ndarray, mask: torch.Tensor | None, last: int) -> dict[int, Any]:
    """Layer -> what a float64 model does with the last rows, token by token."""
    streams: dict[int, torch.Tensor] = {}
    hooks = []
    for i, layer in enumerate(model.model.layers):

        def seen(module, args, output, i=i):
            streams[i] = args[0][0]

        hooks.append(layer.post_attention_layernorm.register_forward_hook(seen))
    model.model(torch.from_numpy(ids)[None], attention_mask=mask)
    for hook in hooks:
        hook.remove()
    found = {}
    for i, layer in enumerate(model.model.layers):
        if not hasattr(layer.mlp, "experts"):
            continue
        x, chosen, weights = layer.mlp.last
        rows = []
        for token in range(len(ids) - last, len(ids)):
            order = chosen[token].argsort()
            gates, experts = weights[token][order], chosen[token][order].tolist()
            outputs = torch.stack([layer.mlp.experts[e](x[token]) for e in experts])
            h = streams[i][token]
            after = h + (gates[:, None] * outputs).sum(0)
            shift = 1 - float(torch.nn.functional.cosine_similarity(h, after, dim=0))
            norms = outputs.square().sum(-1).sqrt().tolist()
            rows.append((experts, gates.tolist(), norms, shift))
        found[i] = rows
    return found


def joined(parts: list[dict[int, list[Any]]]) -> dict[int, dict[str, np.ndarray]]:
    names = ("expert_ids", "weights", "output_norms", "residual_shift")
    return {
        layer: {
            name: np.array([row[column] for part in parts for row in part[layer]])
            for column, name in enumerate(names)
        }
        for layer in parts[0]
    }


def assert_equal(found: dict[int, RoutedTokens], expected: dict[int, dict[str, Any]]) -> None:
    assert list(found) == list(expected)
    for layer, exact in expected.items():
        record = found[layer]
        arrays = ordered(record, exact["expert_ids"].shape[1])
        assert np.array_equal(arrays["expert_ids"], exact["expert_ids"])
        for name in ("weights", "output_norms"):
            np.testing.assert_allclose(arrays[name], exact[name], rtol=1e-3, atol=1e-5)
        shift = exact["residual_shift"]
        np.testing.assert_allclose(record.residual_shift, shift, rtol=5e-3, atol=1e-7)


def test_llada_moe_equals_the_float64_reference(folder):
    model, sequence, denoising = llada("llada", folder), demo(), how("full")
    found = observe_in_memory(model, [sequence], denoising=denoising)
    exact = copy.deepcopy(model).double()
    parts = [rows_of(exact, denoising.corrupted(sequence, ratio), None, LENGTH) for ratio in RATIOS]
    assert_equal(found, joined(parts))
    for record in found.values():
        assert len(record) == len(RATIOS) * LENGTH
        assert np.array_equal(record.is_response, np.tile(sequence.is_response, len(RATIOS)))


def test_llada2_equals_its_blocks_run_one_by_one_in_float64(folder):
    model, sequence, denoising = llada("llada2_moe", folder), demo(), how("blocks")
    found = observe_in_memory(model, [sequence], denoising=denoising)
    exact = copy.deepcopy(model).double()
    blocks = torch.arange(LENGTH) // BLOCK
    mask = torch.zeros(LENGTH, LENGTH, dtype=torch.float64)
    mask.masked_fill_(blocks[None, :] > blocks[:, None], float("-inf"))
    parts = []
    for ratio in RATIOS:
        parts.append(rows_of(exact, sequence.input_ids, mask[None, None], LENGTH))
        ids = denoising.corrupted(sequence, ratio)
        for begin in range(PROMPT // BLOCK * BLOCK, LENGTH, BLOCK):
            end = min(begin + BLOCK, LENGTH)
            so_far = np.concatenate([sequence.input_ids[:begin], ids[begin:end]])
            parts.append(rows_of(exact, so_far, mask[None, None, :end, :end], end - begin))
    assert_equal(found, joined(parts))


@torch.no_grad()
def test_diffusion_gemma_equals_its_blocks_run_one_by_one_in_float64():
    model, sequence, denoising = model_of("diffusion_gemma"), demo(), how("canvas", None)
    found = observe_in_memory(model, [sequence], denoising=denoising)
    exact = copy.deepcopy(model).double()
    exact.set_experts_implementation("eager")
    encoder, decoder = exact.model.encoder, exact.model.decoder
    way, calls = WAYS["gemma4"], {}
    stacks = {"encoder": encoder.language_model.layers, "decoder": decoder.layers}
    for stack, layers in stacks.items():
        for i, layer in enumerate(layers):
            for name in (way.experts, way.stream, *way.norms):

                def hook(module, args, kwargs, output, key=(stack, i, name)):
                    calls[key] = ((*args, *kwargs.values()), output)

                layer.get_submodule(name).register_forward_hook(hook, with_kwargs=True)

    def rows(stack: str, last: int) -> dict[int, dict[str, np.ndarray]]:
        seen = dict(calls)
        whole = {
            i: _layer(layer, way, {n: c for (s, j, n), c in seen.items() if (s, j) == (stack, i)})
            for i, layer in enumerate(stacks[stack])
        }
        return {i: {n: a[len(a) - last :] for n, a in part.items()} for i, part in whole.items()}

    def encoded(end: int) -> Any:
        return encoder(input_ids=torch.from_numpy(sequence.input_ids[:end])[None]).past_key_values

    encoded(PROMPT)
    parts = [rows("encoder", PROMPT)]
    for begin in range(PROMPT, LENGTH, BLOCK):
        end = min(begin + BLOCK, LENGTH)
        for ratio in RATIOS:
            ids = torch.from_numpy(denoising.corrupted(sequence, ratio)[begin:end])[None]
            decoder(decoder_input_ids=ids, past_key_values=encoded(begin))
            parts.append(rows("decoder", end - begin))
        encoded(end)
        parts.append(rows("encoder", end - begin))
    expected = {
        i: {name: np.concatenate([part[i][name] for part in parts]) for name in parts[0][i]}
        for i in parts[0]
    }
    assert_equal(found, expected)
    response = LENGTH - PROMPT
    assert all(len(record) == LENGTH + len(RATIOS) * response for record in found.values())


def demos(path: Path) -> Path:
    lines = [
        {"input_ids": demo(seed).input_ids.tolist(), "response_start": PROMPT} for seed in (1, 2)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("family", ["llada", "llada2_moe", "diffusion_gemma"])
def test_a_diffusion_model_is_pruned(family, tmp_path: Path):
    own = family != "diffusion_gemma"
    path = with_code(family, tmp_path / "m") if own else build(family, tmp_path / "m")
    choices = {
        "demos": str(demos(tmp_path / "text.jsonl")),
        "dtype": "float32",
        "trust_remote_code": own,
    }
    seen = easyep.observe(path, output=tmp_path / "seen", mask_ratio=[0.5, 0.9], **choices)
    assert seen.mask_ratios == Observations.load(tmp_path / "seen").mask_ratios == (0.5, 0.9)
    usual = easyep.observe(path, **choices)
    assert usual.mask_ratios == (0.25, 0.5, 0.75)
    for layer, record in usual.layers.items():
        assert set(record.demo.tolist()) == {0, 1}
        assert (np.diff(record.demo) >= 0).all()
        assert len(record) > len(seen.layers[layer])
    easyep.rewrite(path, easyep.select(easyep.score(usual), keep=0.5), tmp_path / "pruned")
    pruned = Source.open(tmp_path / "pruned")
    assert pruned.router.num_experts * 2 == Source.open(path).router.num_experts


def test_how_many_tokens_a_record_holds_is_known_beforehand(tmp_path: Path):
    for family in ("llada", "llada2_moe", "diffusion_gemma"):
        source = Source.open(build(family, tmp_path / family))
        ratios = (0.25, 0.5, 0.75)
        expected = {"llada": 3 * 40, "llada2_moe": 3 * 70, "diffusion_gemma": 40 + 3 * 30}
        assert recorded_tokens(40, 30, source, ratios) == expected[family]


def test_shares_are_refused_where_they_mean_nothing(tmp_path: Path):
    text = str(demos(tmp_path / "text.jsonl"))
    plain = build("qwen3_moe", tmp_path / "plain")
    with pytest.raises(UnsupportedModelError, match="one token after the other"):
        easyep.observe(plain, demos=text, mask_ratio=[0.5])
    with pytest.raises(ArtifactError, match="above 0 and at most 1"):
        easyep.observe(plain, demos=text, mask_ratio=[0.0])
    gemma = build("diffusion_gemma", tmp_path / "gemma")
    with pytest.raises(UnsupportedModelError, match="--runner memory"):
        easyep.observe(gemma, demos=text, runner="stream")


def test_a_model_that_does_not_say_what_hides_a_token_is_refused(tmp_path: Path, monkeypatch):
    path = with_code("llada", tmp_path / "m")
    config = json.loads((path / "config.json").read_text())
    del config["mask_token_id"]
    (path / "config.json").write_text(json.dumps(config))
    tokenizer = SimpleNamespace(mask_token_id=None)
    monkeypatch.setattr(whole_runner, "load_tokenizer", lambda *args, **choices: tokenizer)
    with pytest.raises(UnsupportedModelError, match="mask_token_id"):
        easyep.observe(path, demos=str(demos(tmp_path / "t.jsonl")), trust_remote_code=True)
