"""Which MTP layers transformers passes over: what the TOML files say is what its classes do."""

import re

import pytest
from transformers import DeepseekV3ForCausalLM, Glm4MoeForCausalLM

from easyep.architectures import spec


@pytest.mark.parametrize(
    ("name", "model"),
    [("deepseek_v3", DeepseekV3ForCausalLM), ("glm4_moe", Glm4MoeForCausalLM)],
)
def test_silent_mtp_layers(name, model):
    patterns = model._keys_to_ignore_on_load_unexpected
    known = {int(number) for text in patterns for number in re.findall(r"layers\\\.(\d+)", text)}
    assert set(spec.get(name).silent_mtp) == known
