"""Every Mixture-of-Experts model that transformers knows can be pruned, or is refused by name."""

import logging
from collections.abc import Iterator
from typing import Any

from transformers import CONFIG_MAPPING

from easyep.architectures import spec
from easyep.errors import UnsupportedModelError

COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")

REFUSED = {"doge", "nllb-moe", "switch_transformers"}
# Configurations that only occur inside of others.
PARTS = {"dots3_note_vision_encoder", "qwen3_omni_moe_talker_text"}


def configurations() -> Iterator[tuple[str, dict[str, Any]]]:
    """model_type and default configuration of every model with experts."""
    for kind in CONFIG_MAPPING:
        try:
            config = CONFIG_MAPPING[kind]().to_dict()
        except Exception:
            continue  # a class without a default, none of which has experts
        if kind not in PARTS and has_experts(config):
            yield kind, config


def has_experts(section: Any) -> bool:
    if not isinstance(section, dict):
        return False
    counts = [section.get(key) for key in COUNTS]
    inside = [has_experts(each) for key, each in section.items() if key.endswith("config")]
    return any(count not in (None, 0, 1, -1) for count in counts) or any(inside)


def test_every_model_with_experts_is_known() -> None:
    logging.disable()
    try:
        found = dict(configurations())
    finally:
        logging.disable(logging.NOTSET)
    assert len(found) > 80
    for kind in found.keys() & REFUSED:
        try:
            spec.find_architecture(found.pop(kind))
        except UnsupportedModelError:
            continue
        raise AssertionError(f"{kind} should be refused")
    for kind, config in found.items():
        architecture = spec.find_architecture(config)
        assert architecture.value(config, "num_experts") > 1, kind
        assert architecture.expected_moe_layers(config) != (), kind
