"""Which MTP layers transformers passes over: what the TOML files say is what its models do."""

import re
from pathlib import Path

import pytest
import torch
import transformers

from easyep.architectures import spec
from easyep.source import Source
from tests.tiny_models import RUNNABLE, WITH_MTP, build
from tests.tiny_models.random_model import skip_if_newer, skip_without_mtp
from tests.tiny_models.settings import Numbers, Settings, load_settings

# Tensors of MTP modules without experts, in families that have no others.
DENSE = {
    "dots3_note": "model.layers.{i}.eh_proj.weight",
    "ernie4_5_moe": "model.mtp_block.{i}.mlp.up_proj.weight",
    "exaone_moe": "mtp.layers.{i}.mlp.up_proj.weight",
    "inkling_mm_model": "model.mtp.layers.{i}.eh_proj.weight",
    "longcat_flash": "model.mtp.layers.{i}.eh_proj.weight",
    "mimo_v2_flash": "model.mtp.layers.{i}.eh_proj.weight",
}


@pytest.mark.parametrize("family", [*(name for name in WITH_MTP if name in RUNNABLE), *DENSE])
def test_silent_mtp_layers(family: str) -> None:
    skip_without_mtp(family)
    settings = load_settings()[family]
    by_type = {kind: spec.get(name) for name in spec.names() for kind in spec.get(name).model_types}
    silent = by_type[settings.model_type].silent_mtp
    name = f"{settings.mtp.name}eh_proj.weight" if settings.mtp is not None else DENSE[family]
    patterns = _ignored(settings)

    def passed_over(number: int) -> bool:
        return any(re.search(p, name.format(i=number, layer=number)) for p in patterns)

    found = {number for number in range(200) if passed_over(number)}
    assert found == (set(range(200)) if silent is True else set(silent or ()))


@pytest.mark.parametrize("family", [name for name in WITH_MTP if name in RUNNABLE])
def test_whose_mtp_layers_run(family: str, tmp_path: Path) -> None:
    skip_without_mtp(family)
    path = build(family, tmp_path / "m", mtp=1)
    config = transformers.AutoConfig.from_pretrained(path).get_text_config()
    source = Source.open(str(path))
    runs = source.architecture.can_run_mtp(source.checkpoint.config)
    assert runs == hasattr(config, "num_mtp_layers")


def test_auto_scores_only_what_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec.Architecture, "is_silent_mtp", lambda self, layer: True)
    expected = {"deepseek_v3": "score", "glm4_moe": "score", "glm4_moe_lite": "follow"}
    expected |= {"glm_moe_dsa": "follow", "deepseek_v32": "follow"}
    for family, mode in expected.items():
        assert Source.open(str(build(family, tmp_path / family, mtp=1))).mtp_mode("auto") == mode


def test_step_passes_over_the_layers_that_its_configuration_counts(tmp_path: Path) -> None:
    path = build("step3p7", tmp_path / "m")  # with one that is dense
    _, info = transformers.AutoModelForImageTextToText.from_pretrained(
        path, output_loading_info=True
    )
    assert not info["unexpected_keys"]
    assert spec.get("step3p7").silent_mtp is True


def _ignored(settings: Settings) -> set[str]:
    """The patterns of a model and of the models in it."""
    numbers = Numbers(settings.num_experts, settings.default_top_k, settings.layers, vocab=64)
    skip_if_newer(settings)
    config = settings.configuration(numbers, {})
    with torch.device("meta"):
        model = getattr(transformers, settings.auto).from_config(
            transformers.AutoConfig.for_model(settings.build, **config)
        )
    return set(model._keys_to_ignore_on_load_unexpected or [])
