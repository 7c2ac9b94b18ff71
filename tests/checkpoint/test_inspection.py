import json
from collections.abc import Callable
from pathlib import Path

import pytest

from easyep.checkpoint.inspection import inspect
from tests.checkpoint.raw_files import deepseek_fp8, gpt_oss_mxfp4, read_all

Sources = Callable[[str], Path]


@pytest.mark.parametrize("family", ["deepseek_v2", "deepseek_v3", "mixtral", "qwen2_moe"])
def test_the_parts_are_what_the_names_say(source: Sources, family: str) -> None:
    found = inspect(source(family))
    tensors = read_all(source(family))
    assert found.architecture == found.model_type == family
    assert found.formats == {"F32": len(tensors)}
    experts = sum(
        len(raw[2])
        for name, raw in tensors.items()
        if ".experts." in name and not name.startswith("model.layers.3.")
    )
    assert found.bytes["routed experts"] == experts
    assert (found.bytes["shared experts"] > 0) == (family != "mixtral")
    assert json.loads(json.dumps(found.to_json()))["moe_layers"] == list(found.moe_layers)


def test_routing_is_shown_with_the_values_of_the_configuration(source: Sources) -> None:
    found = inspect(source("deepseek_v3"))
    assert (found.experts, found.top_k, found.n_group, found.topk_group) == (16, 2, 4, 2)
    assert (found.layers, found.moe_layers, found.mtp_layers) == (3, (1, 2), (3,))
    assert found.routing == {
        "score": "sigmoid",
        "bias": "choice",
        "renormalise": True,
        "scale": 2.5,
        "group_score": "sum of the 2 best",
    }
    assert found.quantization is None


def test_formats_of_quantised_checkpoints(tmp_path: Path) -> None:
    fp8 = inspect(deepseek_fp8(tmp_path / "fp8"))
    assert fp8.quantization == "fp8"
    assert set(fp8.formats) == {"F8_E4M3", "F32", "BF16"}
    mxfp4 = inspect(gpt_oss_mxfp4(tmp_path / "mxfp4"))
    assert mxfp4.quantization == "mxfp4"
    assert mxfp4.bytes["router"] == 2 * (8 * 64 + 8) * 2
