"""The tiny models are what they claim: transformers loads the released form, whole."""

import json
import re
from pathlib import Path

import pytest
import torch

from tests.tiny_models import ALL, FAMILIES, RUNNABLE, WITH_MTP, build, load
from tests.tiny_models.renaming import Renaming, renamed
from tests.tiny_models.settings import Hub, Numbers, load_settings

SETTINGS = load_settings()
LOADABLE = [name for name in ALL if SETTINGS[name].runs is True]
NUMBERS = Numbers(experts=4, top_k=2, layers=3, vocab=64)


@pytest.mark.parametrize("name", LOADABLE)
def test_transformers_loads_every_tensor_of_the_released_form(name: str, tmp_path: Path) -> None:
    settings = SETTINGS[name]
    path = build(name, tmp_path / "m", mtp=int(settings.mtp is not None))
    check_form(name, path)
    ids = torch.randint(2, 56, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert load(name, path)(input_ids=ids).logits.isfinite().all()


@pytest.mark.parametrize("name", [name for name in ALL if name not in LOADABLE])
def test_what_transformers_does_not_load_has_the_released_form(name: str, tmp_path: Path) -> None:
    check_form(name, build(name, tmp_path / "m", mtp=int(SETTINGS[name].mtp is not None)))


def check_form(name: str, path: Path) -> None:
    """Several shards, and the family's name in `config.json`."""
    assert len(list(path.glob("*.safetensors"))) > 1
    config = json.loads((path / "config.json").read_text())
    section = config.get(SETTINGS[name].section, config)
    assert SETTINGS[name].model_type in (config["model_type"], section.get("model_type"))


def test_the_lists_name_what_they_say() -> None:
    assert set(WITH_MTP) | set(RUNNABLE) <= set(FAMILIES) <= set(ALL)
    assert {"deepseek_v3", "glm4_moe"} <= set(WITH_MTP)


def test_numbers_are_put_in_at_every_depth() -> None:
    value = {"a": ["$experts", {"b": "$vocab"}], "c": "x"}
    assert NUMBERS.put_in(value) == {"a": [4, {"b": 64}], "c": "x"}


def test_a_released_configuration() -> None:
    hub = Hub(
        rename={"text.count": "text.num", "text": "language"},
        remove=("cache", "absent.key"),
        add={"language.k": "$top_k", "language.num": 9},
    )
    saved = {"cache": True, "text": {"count": 4, "z": 0}, "last": 1}
    released = hub.released(saved, NUMBERS)
    assert released == {"language": {"num": 4, "z": 0, "k": 2}, "last": 1}
    assert list(released) == ["language", "last"]
    assert list(released["language"]) == ["num", "z", "k"]


def test_stacks_become_experts_and_back() -> None:
    stack = torch.randn(3, 4, 8)  # [experts, hidden, gate and up]
    apart = Renaming(
        re.compile(r"l\.(\d+)\.gate_up"),
        (r"layers.\1.experts.{expert}.gate", r"layers.\1.experts.{expert}.up"),
        transpose=True,
    )
    experts = renamed({"l.0.gate_up": stack, "norm": stack[0]}, [apart])
    assert sorted(experts)[-1] == "norm"
    assert torch.equal(experts["layers.0.experts.2.up"], stack[2].T[4:])
    together = Renaming(
        re.compile(r"(.+\.experts)\.(?P<expert>\d+)\.(gate|up)"), (r"\1.\3",), stack=True
    )
    back = renamed(experts, [together, Renaming(re.compile("norm"), ())])
    assert list(back) == ["layers.0.experts.gate", "layers.0.experts.up"]
    assert torch.equal(back["layers.0.experts.gate"], stack.transpose(1, 2)[:, :4])
