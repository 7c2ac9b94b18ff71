"""Experts and routers as numbers, from checkpoints in the formats of released ones."""

import numpy as np
import pytest
import torch

import easyep
from easyep.checkpoint.copying import Sources
from easyep.checkpoint.layer_weights import StoredWeights
from easyep.errors import UnsupportedModelError
from easyep.source import Source
from tests.checkpoint import raw_files
from tests.checkpoint.test_decoding import E2M1


def weights(source, sources, layer) -> StoredWeights:
    return StoredWeights(source.layout.layers[layer], source.checkpoint.config, sources)


def test_an_expert_for_each_tensor_in_block_fp8(tmp_path):
    path = raw_files.deepseek_fp8(tmp_path / "m")
    raw, source = raw_files.read_all(path), Source.open(path)
    with Sources(path, source.checkpoint.shards.values()) as sources:
        found = list(weights(source, sources, 1).expert(3))
        router = weights(source, sources, 1).router()
    assert len(found) == 3
    for piece, part in zip(found, ("down_proj", "gate_proj", "up_proj"), strict=True):
        name = f"model.layers.1.mlp.experts.3.{part}.weight"
        _, shape, content = raw[name]
        codes = torch.tensor(list(content), dtype=torch.uint8).view(torch.float8_e4m3fn)
        scale = np.frombuffer(raw[f"{name}_scale_inv"][2], "<f4")
        np.testing.assert_array_equal(piece, codes.float().numpy().reshape(shape) * scale)
    _, shape, content = raw["model.layers.1.mlp.gate.weight"]
    expected = torch.frombuffer(bytearray(content), dtype=torch.bfloat16).reshape(shape)
    np.testing.assert_array_equal(router, expected.float().numpy())


def test_stacked_experts_in_mxfp4(tmp_path):
    made = raw_files.gpt_oss_mxfp4(tmp_path / "made")
    raw = {
        name: (dtype, shape, bytes(120 + byte % 16 for byte in content))
        if name.endswith("_scales")
        else (dtype, shape, content)
        for name, (dtype, shape, content) in raw_files.read_all(made).items()
    }
    path = raw_files.write_checkpoint(tmp_path / "m", Source.open(made).checkpoint.config, raw)
    source = Source.open(path)
    with Sources(path, source.checkpoint.shards.values()) as sources:
        found = np.concatenate([p.ravel() for p in weights(source, sources, 1).expert(5)])
    expected = []
    for part in ("down_proj", "gate_up_proj"):
        blocks, scales = (
            np.frombuffer(raw[f"model.layers.1.mlp.experts.{part}_{end}"][2], np.uint8)
            for end in ("blocks", "scales")
        )
        for group, power in zip(
            blocks.reshape(8, -1, 16)[5], scales.reshape(8, -1)[5], strict=True
        ):
            for byte in group.tolist():
                scale = 2.0 ** (int(power) - 127)
                expected += [E2M1[byte & 15] * scale, E2M1[byte >> 4] * scale]
    np.testing.assert_array_equal(np.sort(found), np.sort(np.float32(expected)))


def test_a_model_is_scored_without_data():
    """The demo model's numbers, read by torch."""
    from safetensors.torch import load_file

    source = Source.open("demo")
    tensors = {}
    for file in source.model.path.glob("*.safetensors"):
        tensors |= load_file(file)
    aimer = easyep.score(criterion="aimer", model="demo")
    norms = easyep.score(criterion="router-norm", model=source)
    assert sorted(aimer.layers) == list(source.layout.moe_layers)
    assert aimer.observations == ()
    for layer in (1, 4):
        prefix = f"model.layers.{layer}.mlp."
        router = tensors[f"{prefix}gate.weight"].double()
        np.testing.assert_allclose(norms.layers[layer], router.norm(dim=1).numpy(), rtol=1e-12)
        for expert in (0, 31):
            parts = ("gate_proj", "up_proj", "down_proj")
            numbers = torch.cat(
                [tensors[f"{prefix}experts.{expert}.{p}.weight"].double().ravel() for p in parts]
            )
            expected = 1 - numbers.abs().sum() / (numbers.numel() ** 0.5 * numbers.norm())
            assert aimer.layers[layer][expert] == pytest.approx(float(expected), rel=1e-11)


def test_mtp_layers_are_scored_when_asked():
    source = Source.open("demo")
    scored = easyep.score(criterion="router-norm", model=source, mtp="score")
    assert sorted(scored.layers) == [*source.layout.moe_layers, *source.layout.mtp_layers]


def test_packed_integers_are_refused(tmp_path):
    path = raw_files.deepseek_fp8(tmp_path / "m", experts=4)
    raw = raw_files.read_all(path)
    for name in [n for n in raw if ".experts." in n]:
        _, shape, _ = raw.pop(name)
        if name.endswith("scale_inv"):
            continue
        stem = name.removesuffix(".weight")
        raw[f"{stem}.weight_packed"] = raw_files.tensor("I32", shape[0], shape[1] // 8)
        raw[f"{stem}.weight_scale"] = raw_files.tensor("BF16", shape[0], shape[1] // 32)
        raw[f"{stem}.weight_shape"] = raw_files.tensor("I64", 2)
    config = Source.open(path).checkpoint.config
    packed = raw_files.write_checkpoint(tmp_path / "packed", config, raw)
    with pytest.raises(UnsupportedModelError, match="I32"):
        easyep.score(criterion="aimer", model=packed)
    assert Source.open(packed).layout.layers[0].experts
