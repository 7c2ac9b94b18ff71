"""The two ways to see what single experts give."""

from pathlib import Path

import numpy as np
import pytest

from easyep.loading import load_model
from easyep.observation import experts
from easyep.observation.in_memory import observe_in_memory
from tests.observation.test_recorder import sequence
from tests.tiny_models import build


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["deepseek_v3", "gpt_oss"])
def test_pairs_by_themselves_give_the_same(
    family: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with transformers 5.19, which shows no single outputs; bit for bit."""
    model = load_model(build(family, tmp_path / "m", dtype=dtype), device="cpu")
    demos = [sequence(length, 60, seed=length) for length in (1, 9, 17)]
    found = {}
    for shown in (True, False):
        if shown and not experts.SHOWN_INSIDE:
            pytest.skip("this transformers shows no single outputs")
        monkeypatch.setattr(experts, "SHOWN_INSIDE", shown)
        found[shown] = observe_in_memory(model, demos)
    assert found[True]
    for layer, record in found[True].items():
        for name in ("expert_ids", "weights", "output_norms", "residual_shift"):
            assert np.array_equal(getattr(record, name), getattr(found[False][layer], name))
