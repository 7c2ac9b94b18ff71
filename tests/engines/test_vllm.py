"""vLLM generates from full and pruned checkpoints what transformers does.

    VLLM_PYTHON=.../bin/python python -m pytest -m slow tests/engines/test_vllm.py

With VLLM_RESULTS=FILE.json what was measured is saved there.
"""

import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from easyep import resources
from tests.engines import in_vllm
from tests.engines.cases import Case, demo_prompts, make
from tests.engines.greedy import Greedy, assert_same, compared, in_transformers
from tests.engines.in_vllm import Job
from tests.tiny_models import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(in_vllm.missing() is not None, reason=str(in_vllm.missing())),
]

# Its attention for CPUs takes heads of 32 numbers, or of certain larger sizes.
HEADS = {"head_dim": 32}
WIDTH = {"hidden_size": 128}
LATENT = {"qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 32, "kv_lora_rank": 48}
CASES = (
    Case("qwen3_moe", "qwen3_moe", config=HEADS),
    Case("qwen2_moe", "qwen2_moe", config=WIDTH),
    Case("mixtral", "mixtral", config=WIDTH),
    Case("olmoe", "olmoe", config=WIDTH),
    Case("glm4_moe", "glm4_moe", config=HEADS),
    Case("deepseek_v3", "deepseek_v3", config=LATENT),
    Case("deepseek_v3, flatten", "deepseek_v3", 6, "flatten", config=LATENT),
)

# vLLM's kernel for CPUs computes DeepSeek-V3's plain rotary embedding wrongly from the second
# position on, and YaRN as in the released models rightly; with a factor of one YaRN is plain.
PLAIN_AS_YARN = {
    "rope_parameters": {
        "rope_type": "yarn",
        "factor": 1.0,
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 512,
    }
}


@pytest.fixture(scope="module")
def pairs(pruned: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name -> selection (None for the full model), what transformers and what vLLM generated."""
    ours: dict[str, Greedy] = {}
    jobs: dict[str, Job] = {}
    selections: dict[str, Any] = {}
    for case in CASES:
        made = make(case, tmp_path_factory.mktemp("vllm"))
        overrides = PLAIN_AS_YARN if case.family == "deepseek_v3" else {}
        for part, path, selection in (
            ("full", made.source, None),
            ("pruned", made.path, made.selection),
        ):
            name = f"{case.name}, {part}"
            ours[name] = in_transformers(load(case.family, path))
            jobs[name] = Job(path, overrides=overrides)
            selections[name] = selection
    prompts = demo_prompts(pruned.path)
    for name, path, selection in (
        ("demo, full", resources.demo_model(), None),
        ("demo, pruned for math", pruned.path, pruned.selection),
    ):
        model = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
        ours[name] = in_transformers(model, prompts)
        jobs[name] = Job(path, prompts, PLAIN_AS_YARN)
        selections[name] = selection
    theirs = in_vllm.in_vllm(jobs, tmp_path_factory.mktemp("out"))
    found = {name: (selections[name], ours[name], theirs[name]) for name in jobs}
    if "VLLM_RESULTS" in os.environ:
        record = {
            "schema": 1,
            "date": time.strftime("%Y-%m-%d"),
            "machine": platform.machine(),
            "versions": {
                "vllm": in_vllm.version(),
                **{name: version(name) for name in ("torch", "transformers")},
            },
            "cases": {name: compared(*each) for name, each in found.items()},
        }
        Path(os.environ["VLLM_RESULTS"]).write_text(json.dumps(record, indent=1) + "\n")
    return found


NAMES = [
    *(f"{case.name}, {part}" for case in CASES for part in ("full", "pruned")),
    "demo, full",
    "demo, pruned for math",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_tokens(name: str, pairs: dict[str, Any]) -> None:
    _, ours, theirs = pairs[name]
    assert_same(ours, theirs, tolerance=1e-4)
