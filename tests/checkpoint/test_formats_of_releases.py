"""Quantised checkpoints under the names of released families, against models built that small."""

import json
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from random import Random

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.verification import verify
from tests.checkpoint import by_difference
from tests.checkpoint.raw_files import BYTES, read_all, read_file, write_checkpoint
from tests.tiny_models import build
from tests.tiny_models.settings import load_settings

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]
Form = tuple[str, tuple[int, ...]]

# What takes the place of a weight [..., rows, columns]: what follows its name -> (dtype, shape).
Stored = Callable[[tuple[int, ...], int, int], dict[str, Form]]


def nvfp4(e: tuple[int, ...], r: int, c: int) -> dict[str, Form]:
    return {
        ".weight": ("U8", (*e, r, c // 2)),
        ".weight_scale": ("F8_E4M3", (*e, r, c // 16)),
        ".weight_scale_2": ("F32", e),
        ".input_scale": ("F32", ()),
    }


# family -> the weights that are quantised, without what follows their name; and how.
RELEASES: dict[str, tuple[str, Stored]] = {
    "deepseek_v4": (  # experts of the MTP layer, too
        r"(?P<matrix>.+\.ffn\.experts\.\d+\.w[123])\.weight",
        lambda e, r, c: {".weight": ("I8", (r, c // 2)), ".scale": ("F8_E8M0", (r, c // 32))},
    ),
    "step3p7": (r"(?P<matrix>.+\.moe\.(gate|up|down)_proj)\.weight", nvfp4),
    "step3p7.per_expert": (r"(?P<matrix>.+\.moe\.experts\.\d+\.\w+_proj)\.weight", nvfp4),
    "hy_v4": (
        r"(?P<matrix>.+\.mlp\.experts\.(gate_up|down)_proj)",
        lambda e, r, c: {
            "": ("F8_E4M3", (*e, r, c)),
            "_scale_inv": ("F32", (*e, r // 16, c // 16)),
        },
    ),
    "mistral4": (
        r"(?P<matrix>.+\.mlp\.experts\.(gate_up|down)_proj)",
        lambda e, r, c: {
            "": ("F8_E4M3", (*e, r, c)),
            "_scale_inv": ("F32", ()),
            "_activation_scale": ("F32", e),
        },
    ),
    "inkling2": (
        r"(?P<matrix>.+\.mlp\.experts\.w(13|2))_weight",
        lambda e, r, c: {
            "_weight": ("F8_E4M3", (*e, r, c)),
            "_weight_scale": ("U8", (*e, r, c // 8)),
        },
    ),
    "llama4.per_expert": (
        r"(?P<matrix>.+\.experts\.\d+\.\w+_proj)\.weight",
        lambda e, r, c: {".weight": ("F8_E4M3", (r, c)), ".weight_scale": ("BF16", (r, 1))},
    ),
    # The body in NVFP4, an expert a tensor; the MTP layer stacked and not quantised.
    "qwen4_exp.per_expert": (r"(?P<matrix>model\..+\.experts\.\d+\.\w+_proj)\.weight", nvfp4),
}


def quantised(family: str, path: Path, to: Path) -> Path:
    """The checkpoint in `path` with random bytes in the released form, in two files."""
    pattern, stored = RELEASES[family]
    rng = Random(family)
    tensors = {}
    for name, raw in read_all(path).items():
        match = re.fullmatch(pattern, name)
        if match is None:
            tensors[name] = raw
            continue
        *e, r, c = raw[1]
        for suffix, (dtype, shape) in stored(tuple(e), r, c).items():
            data = rng.randbytes(prod(shape) * BYTES[dtype])
            tensors[match["matrix"] + suffix] = (dtype, shape, data)
    config = json.loads((path / "config.json").read_text())
    names = sorted(tensors, key=lambda name: (BYTES[tensors[name][0]], name))  # scales apart
    first, second = names[: len(names) // 2], names[len(names) // 2 :]
    return write_checkpoint(
        to, config, {n: tensors[n] for n in first}, {n: tensors[n] for n in second}
    )


@pytest.mark.parametrize("family", RELEASES)
def test_pruned_is_what_a_model_built_that_small_has(
    source: Sources, choose: Chooser, tmp_path: Path, family: str
) -> None:
    settings = load_settings()[family]
    whole = quantised(family, source(family), tmp_path / "whole")
    selection = choose(whole)
    mtp = int(settings.mtp is not None)
    less = build(family, tmp_path / "less", num_experts=selection.keep, mtp=mtp)
    small = quantised(family, less, tmp_path / "small")
    expected = by_difference.pruned(whole, small, settings, selection)
    out = rewrite(whole, selection, tmp_path / "out", max_shard_size=1).path
    pruned = {n: raw for n, raw in read_all(out).items() if not by_difference.TABLES.search(n)}
    assert pruned == expected
    assert {raw[0] for raw in pruned.values()} - {"F32", "I64"}
    holds = {file: read_file(file) for file in out.glob("*.safetensors")}
    for match in filter(None, (re.fullmatch(RELEASES[family][0], name) for name in read_all(less))):
        assert sum(any(n.startswith(match["matrix"]) for n in each) for each in holds.values()) == 1
    result = verify(out, whole)
    assert result.ok, result.problems
