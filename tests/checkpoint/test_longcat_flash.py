"""LongCat-Flash computes, pruned, what it did, although transformers cannot load its releases.

Its class wants a row of the experts' first matrices for every zero expert too, which does nothing;
here those rows are added.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
from easyep.masking import mask
from easyep.source import Source

FAMILY = "longcat_flash"


def load(path: Path) -> Any:
    config = AutoConfig.for_model(**json.loads((path / "config.json").read_text()))
    released: dict[str, torch.Tensor] = {}
    for file in path.glob("*.safetensors"):
        released |= load_file(file)
    tensors = {n: t for n, t in released.items() if ".experts." not in n and ".mtp." not in n}
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}.mlp.experts."

        def stacked(matrix: str, prefix: str = prefix) -> torch.Tensor:
            experts = range(config.n_routed_experts)
            return torch.stack([released[f"{prefix}{e}.{matrix}.weight"] for e in experts])

        first = torch.cat([stacked("gate_proj"), stacked("up_proj")], dim=1)
        zeros = first.new_zeros(config.zero_expert_num, *first.shape[1:])
        tensors[f"{prefix}gate_up_proj"] = torch.cat([first, zeros])
        tensors[f"{prefix}down_proj"] = stacked("down_proj")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(tensors)
    return model.eval()


def logits_of(model: Any) -> torch.Tensor:
    ids = torch.randint(2, 64, (4, 12), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        out: torch.Tensor = model(ids).logits
    return out


def test_a_pruned_checkpoint_computes_what_the_masked_original_does(
    source: Callable[[str], Path], choose: Callable[..., Selection], tmp_path: Path
) -> None:
    selection = choose(source(FAMILY))
    original = load(source(FAMILY))
    untouched = logits_of(original)
    model = Source.open(source(FAMILY))
    with mask(original, selection, model.architecture, model.layout):
        expected = logits_of(original)
    pruned = load(rewrite(source(FAMILY), selection, tmp_path / "out").path)
    torch.testing.assert_close(logits_of(pruned), expected, rtol=1e-4, atol=1e-4)
    assert (expected - untouched).abs().max() > 0.05
