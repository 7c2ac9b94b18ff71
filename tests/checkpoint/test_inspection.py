import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyep.checkpoint.inspection import inspect
from easyep.errors import SelectionError
from tests.checkpoint.raw_files import (
    deepseek_fp8,
    gpt_oss_mxfp4,
    read_all,
    tensor,
    write_checkpoint,
)

Sources = Callable[[str], Path]


@pytest.mark.parametrize("family", ["deepseek_v2", "deepseek_v3", "mixtral", "qwen2_moe"])
def test_the_parts_are_what_the_names_say(source: Sources, family: str) -> None:
    found = inspect(source(family))
    tensors = read_all(source(family))
    assert found.architecture == found.model_type == family
    assert (found.tensors, found.shards) == (
        len(tensors),
        len(list(source(family).glob("*.safetensors"))),
    )
    body = {n: len(raw[2]) for n, raw in tensors.items() if not n.startswith("model.layers.3.")}

    def of(pattern: str) -> tuple[int, int]:
        sizes = [size for name, size in body.items() if re.search(pattern, name)]
        return len(sizes), sum(sizes)

    expected = {
        "routed experts": of(r"\.experts\."),
        "router": of(r"(mlp|moe)\.gate\."),
        "shared experts": of(r"\.shared_expert"),
        "attention": of(r"self_attn"),
        "rest of the layers": of(r"(input|post_attention)_layernorm\.|mlp\.(up|down|gate)_proj"),
        "embeddings and head": of(r"^(lm_head|model\.(embed_tokens|norm))\."),
    }
    counted = {part.name: (part.tensors, part.bytes) for part in found.parts if part.name != "MTP"}
    assert counted == {name: sizes for name, sizes in expected.items() if sizes[0]}
    assert found.part("MTP").tensors == len(tensors) - len(body)
    assert {tuple(part.formats) for part in found.parts} == {("F32",)}
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


def test_routing_that_the_configuration_does_not_state(tmp_path: Path) -> None:
    routing = inspect(deepseek_fp8(tmp_path / "fp8")).routing
    assert (routing["score"], routing["scale"], routing["renormalise"]) == ("sigmoid", None, None)


def test_formats_of_each_part(tmp_path: Path) -> None:
    fp8 = inspect(deepseek_fp8(tmp_path / "fp8"))
    assert fp8.quantization == "fp8"
    experts = fp8.part("routed experts")
    numbers = 2 * 8 * 3 * 128 * 64  # layers, experts, matrices
    assert experts.formats == {"F8_E4M3": numbers, "F32": 2 * 8 * 3 * 4}
    assert experts.bytes == sum(experts.formats.values())
    ends = fp8.part("embeddings and head")
    assert ends.formats == {"BF16": 16 * 128 * 2}
    told = {"tensors": ends.tensors, "bytes": ends.bytes, "formats": {"BF16": 16 * 128 * 2}}
    assert ends.to_json() == {"name": "embeddings and head", **told}
    mxfp4 = inspect(gpt_oss_mxfp4(tmp_path / "mxfp4"))
    assert mxfp4.quantization == "mxfp4"
    assert mxfp4.part("router").bytes == 2 * (8 * 64 + 8) * 2
    assert set(mxfp4.part("routed experts").formats) == {"U8", "BF16"}


@pytest.mark.parametrize(
    ("place", "settings", "said"),
    [
        ("config.json", {"quantization_config": {"quant_method": "awq"}}, "awq"),
        ("config.json", {"text_config": {"compression_config": {"quant_method": "q"}}}, "q"),
        ("config.json", {"quantization_config": {"bits": 4}}, "unnamed"),
        ("hf_quant_config.json", {"quantization": {"quant_algo": "NVFP4"}}, "NVFP4"),
        ("quantize_config.json", {"bits": 4, "quant_method": "gptq"}, "gptq"),
        ("quant_config.json", {"w_bit": 4}, "unnamed"),
        ("generation_config.json", {"quantization": {"quant_algo": "NVFP4"}}, None),
    ],
)
def test_the_quantiser_is_found_where_it_has_its_settings(
    source: Sources, tmp_path: Path, place: str, settings: dict[str, Any], said: str | None
) -> None:
    path = shutil.copytree(source("mixtral"), tmp_path / "m")
    before = json.loads((path / place).read_text()) if (path / place).exists() else {}
    (path / place).write_text(json.dumps({**before, **settings}))
    assert inspect(path).quantization == said


@pytest.mark.parametrize(
    ("family", "part", "names"),
    [
        ("gemma4", "vision", r"\.(vision_tower|embed_vision)\."),
        ("llama4", "vision", r"^(vision_model|multi_modal_projector)\."),
        ("ernie4_5_vl_moe", "vision", r"\.(vision_model|resampler_model)\."),
        ("qwen3_omni_moe", "audio", r"^(talker|code2wav)\.|audio_tower"),
        ("inkling_mm_model", "audio", r"^model\.audio\."),
    ],
)
def test_towers_are_counted_on_their_own(
    source: Sources, family: str, part: str, names: str
) -> None:
    tensors = read_all(source(family))
    sizes = [len(raw[2]) for name, raw in tensors.items() if re.search(names, name)]
    found = inspect(source(family)).part(part)
    assert (found.tensors, found.bytes) == (len(sizes), sum(sizes))
    assert sizes


def test_savings_of_given_fractions_and_counts(source: Sources) -> None:
    found = inspect(source("deepseek_v3"), [0.9, 12, 0.45, 8, 16])
    # Of 16 experts in 4 groups that are scored by 2; fractions take the nearest that works.
    assert [saving.keep for saving in found.savings] == [12, 8, 16]
    assert found.savings[-1].fraction == 1
    with pytest.raises(SelectionError, match="nearest counts that work: 8 and 12"):
        inspect(source("deepseek_v3"), [10])
    with pytest.raises(SelectionError, match="a fraction in"):
        inspect(source("deepseek_v3"), [1.5])


def test_a_checkpoint_of_no_bytes(tmp_path: Path) -> None:
    config = {"model_type": "mixtral", "num_hidden_layers": 1}
    config |= {"num_local_experts": 2, "num_experts_per_tok": 1}
    block = "model.layers.0.block_sparse_moe."
    names = [f"{block}experts.{expert}.{w}.weight" for expert in (0, 1) for w in ("w1", "w2", "w3")]
    tensors = {name: tensor("BF16", 0, 4) for name in names}
    path = write_checkpoint(
        tmp_path / "m", config, {**tensors, f"{block}gate.weight": tensor("BF16", 2, 0)}
    )
    (saving,) = inspect(path, [1]).savings
    assert (saving.bytes, saving.fraction) == (0, 1)


def test_sparse_files_with_headers_are_enough(source: Sources, tmp_path: Path) -> None:
    shutil.copytree(source("mixtral"), tmp_path / "sparse")
    for file in (tmp_path / "sparse").glob("*.safetensors"):
        size = file.stat().st_size
        header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        os.truncate(file, header)
        os.truncate(file, size)
    assert inspect(tmp_path / "sparse") == inspect(source("mixtral"))
