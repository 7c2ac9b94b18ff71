"""llama.cpp generates from pruned checkpoints what transformers does.

    LLAMA_CPP_SOURCE=.../llama.cpp python -m pytest -m slow tests/engines

With ENGINE_RESULTS=FILE.json what was measured is saved there.
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from easyep.checkpoint.rewriting import rewrite
from tests.checkpoint.test_quantised_logits import BLOCK, quantised, to_fp8
from tests.engines import tiny_tokenizer
from tests.engines.cases import YARN, Case, Checkpoints, demo_prompts, make
from tests.engines.greedy import assert_same, compared, in_transformers
from tests.engines.in_llama_cpp import in_llama_cpp, missing
from tests.tiny_models import build, load
from tests.tiny_models.choosing import choose_at_random

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


@pytest.fixture(scope="session")
def results() -> Iterator[dict[str, Any]]:
    """Name of a case -> what was measured."""
    measured: dict[str, Any] = {}
    yield measured
    path = os.environ.get("ENGINE_RESULTS")
    if path is not None:
        packages = ("llama-cpp-python", "torch", "transformers", "numpy")
        record = {
            "schema": 1,
            "date": time.strftime("%Y-%m-%d"),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in packages},
            "cases": measured,
        }
        Path(path).write_text(json.dumps(record, indent=1) + "\n")


def test_the_same_tokens(checkpoints: Checkpoints, results: dict[str, Any], tmp_path: Path) -> None:
    ours = in_transformers(load(checkpoints.case.family, checkpoints.path))
    theirs = in_llama_cpp(checkpoints.path, tmp_path)
    results[checkpoints.case.name] = compared(checkpoints.selection, ours, theirs)
    assert_same(ours, theirs, tolerance=1e-4)


def test_fp8_in_blocks(results: dict[str, Any], tmp_path: Path) -> None:
    """DeepSeek-V3's storage format; both engines decode it to float32."""
    source = build(
        "deepseek_v3",
        tmp_path / "source",
        mtp=1,
        shard_bytes=None,
        intermediate_size=32,
        vocab_size=tiny_tokenizer.SIZE,
    )
    settings = {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}
    quantised(source, settings, to_fp8)
    tiny_tokenizer.save(source)
    selection = choose_at_random(source)
    path = rewrite(source, selection, tmp_path / "out").path
    ours = in_transformers(load("deepseek_v3", path))
    theirs = in_llama_cpp(path, tmp_path)
    results["deepseek_v3, FP8"] = compared(selection, ours, theirs)
    assert_same(ours, theirs, tolerance=1e-4)


def test_the_demo_model(pruned: Any, results: dict[str, Any], tmp_path: Path) -> None:
    """A trained model, with questions of the domain that it was pruned for."""
    prompts = demo_prompts(pruned.path)
    model = AutoModelForCausalLM.from_pretrained(pruned.path, dtype="float32")
    ours = in_transformers(model, prompts)
    theirs = in_llama_cpp(pruned.path, tmp_path, prompts)
    results["demo, pruned for math"] = compared(pruned.selection, ours, theirs)
    assert_same(ours, theirs, tolerance=1e-4)


def test_llama_cpp_rounds_the_yarn_of_gpt_oss(results: dict[str, Any], tmp_path: Path) -> None:
    """The release says ``truncate: false``; llama.cpp computes as if it said true.

    So it generates something else than transformers, pruned or not, and the same once
    transformers is told to round as well.
    """
    checkpoints = make(Case("gpt_oss, YaRN as released", "gpt_oss"), tmp_path)
    for name, path, selection in (
        ("full", checkpoints.source, None),
        ("pruned", checkpoints.path, checkpoints.selection),
    ):
        scratch = tmp_path / name
        scratch.mkdir()
        theirs = in_llama_cpp(path, scratch)
        ours = in_transformers(load("gpt_oss", path))
        results[f"{checkpoints.case.name}, {name}"] = compared(selection, ours, theirs)
        assert np.abs(ours.logits[:, 0] - theirs.logits[:, 0]).max() > 1e-3
        rounding = in_transformers(load("gpt_oss", path, rope_parameters=YARN))
        assert_same(rounding, theirs, tolerance=1e-4)
