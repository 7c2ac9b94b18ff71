"""DeepSeek-VL2 that chooses experts as DeepSeek-V3 does: a bias, and groups by their two best.

No release of transformers has the model; its checkpoints are the language model's, in a section of
their configuration and under a prefix.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.verification import verify
from easyep.source import Source
from tests.checkpoint.raw_files import Raw, read_all, write_checkpoint

BIAS = "e_score_correction_bias"


@pytest.fixture
def vl2(source: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """How experts are chosen -> a checkpoint made of DeepSeek-V3's."""

    def make(method: str) -> Path:
        config: dict[str, Any] = json.loads((source("deepseek_v3") / "config.json").read_text())
        layers = config["num_hidden_layers"]
        config |= {"model_type": "deepseek_v2", "topk_method": method, "scoring_func": "sigmoid"}
        config["num_nextn_predict_layers"] = 0
        tensors: dict[str, Raw] = {
            f"language.{name}": raw
            for name, raw in read_all(source("deepseek_v3")).items()
            if f"layers.{layers}." not in name and (method == "noaux_tc" or BIAS not in name)
        }
        whole = {"model_type": "deepseek_vl_v2", "language_config": config}
        return write_checkpoint(tmp_path / method, whole, tensors)

    return make


def test_the_bias_is_pruned_with_its_experts(
    vl2: Callable[[str], Path], choose: Callable[..., Selection], tmp_path: Path
) -> None:
    path = vl2("noaux_tc")
    selection = choose(path)
    out = rewrite(path, selection, tmp_path / "out").path
    assert verify(out, path).ok
    before, after = read_all(path), read_all(out)
    (name, *_) = (name for name in before if BIAS in name)
    layer = int(name.split("layers.")[1].split(".")[0])
    kind, (experts,), data = before[name]
    each = len(data) // experts
    kept = b"".join(data[each * e : each * (e + 1)] for e in selection.layers[layer])
    assert after[name] == (kind, (selection.keep,), kept)


@pytest.mark.parametrize(
    ("method", "groups"), [("noaux_tc", 4), ("group_limited_greedy", 4), ("greedy", 1)]
)
def test_groups_count_where_the_method_looks_at_them(
    vl2: Callable[[str], Path], method: str, groups: int
) -> None:
    source = Source.open(vl2(method))
    assert (source.router.n_group, source.router.group_best) == (groups, 2)
    assert source.architecture.name == "deepseek_ocr2"
