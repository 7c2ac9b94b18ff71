"""What stands in for transformers' MTP functions where it is too old to have them."""

from pathlib import Path

import pytest
import torch
from transformers.modeling_layers import MtpModel

from easyep.loading import load_model
from easyep.observation.mtp_layer import conversions, run_layer
from easyep.observation.multi_token import load_mtp
from tests.tiny_models import build


@pytest.mark.skipif(
    not hasattr(MtpModel, "forward_layer"), reason="this transformers has only what stands in"
)
@pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe"])
def test_the_stand_ins_do_the_same(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(build(family, tmp_path / "m", mtp=2), device="cpu")
    mtp = load_mtp(model)
    generator = torch.Generator().manual_seed(0)
    hidden, embedded = (
        torch.randn(2, 7, model.config.hidden_size, generator=generator) for _ in range(2)
    )
    positions = torch.arange(1, 8)[None].expand(2, -1)

    def results() -> tuple[list[torch.Tensor], list[tuple[object, ...]]]:
        with torch.no_grad():
            states = [run_layer(mtp, i, hidden, positions, embedded) for i in range(2)]
        names = [
            (type(each).__name__, each.source_patterns, each.target_patterns)
            for each in conversions(mtp, model)
        ]
        return states, names

    monkeypatch.delattr(model, "_weight_conversions")  # as a model that has not been loaded
    theirs, their_names = results()
    monkeypatch.delattr(MtpModel, "forward_layer")
    monkeypatch.delattr(MtpModel, "get_weight_conversions")
    ours, our_names = results()
    assert not torch.equal(theirs[0], theirs[1])
    assert all(map(torch.equal, theirs, ours))
    assert their_names == our_names
    assert len(our_names) > 2
