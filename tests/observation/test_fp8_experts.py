"""Experts that transformers computes in 8 bits have a registry of their own; they are seen too."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers.integrations.finegrained_fp8 import ALL_FP8_EXPERTS_FUNCTIONS, FP8Experts
from transformers.integrations.moe import use_experts_implementation

from easyep.loading import load_model
from easyep.observation.experts import FP8_LOOP
from easyep.observation.in_memory import observe_in_memory
from tests.observation.test_recorder import sequence
from tests.tiny_models import build


class Experts(FP8Experts):
    """As transformers makes them, but with weights in 32 bits, which need no kernel."""


use_experts_implementation(
    Experts, experts_interface=ALL_FP8_EXPERTS_FUNCTIONS, has_bias=False, has_gate=True
)


def in_registry(model: nn.Module) -> nn.Module:
    """The model, its experts replaced."""
    for name, module in list(model.named_modules()):
        if name.endswith(".experts"):
            replaced = Experts(config=module.config, block_size=(32, 32))
            for part in ("gate_up_proj", "down_proj"):
                setattr(replaced, part, nn.Parameter(getattr(module, part).detach()))
            model.set_submodule(name, replaced)
    return model


@pytest.mark.parametrize("implementation", ["eager", "by kernel"])
def test_the_second_registry_is_watched(
    tmp_path: Path, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build("qwen3_moe", tmp_path / "m")
    plain = load_model(path, dtype="float32", device="cpu")
    fp8 = in_registry(load_model(path, dtype="float32", device="cpu")).eval()
    asked: list[int] = []

    def kernel(experts: nn.Module, *arguments: torch.Tensor) -> torch.Tensor:
        asked.append(len(arguments[0]))
        return FP8_LOOP(experts, *arguments)

    monkeypatch.setitem(ALL_FP8_EXPERTS_FUNCTIONS._local_mapping, "by kernel", kernel)
    fp8.config._experts_implementation = implementation
    demo = sequence(70, plain.config.vocab_size)
    ids = torch.from_numpy(demo.input_ids)[None]
    before = fp8(ids).logits
    expected, found = observe_in_memory(plain, [demo]), observe_in_memory(fp8, [demo])
    assert found.keys() == expected.keys()
    for layer, record in expected.items():
        assert np.array_equal(found[layer].expert_ids, record.expert_ids)
        for name in ("weights", "output_norms", "residual_shift"):
            mine, its = getattr(found[layer], name), getattr(record, name)
            np.testing.assert_allclose(mine, its, rtol=2e-4, atol=1e-6)
    assert bool(asked) == (implementation == "by kernel")
    assert fp8.config._experts_implementation == implementation
    assert torch.equal(fp8(ids).logits, before)
