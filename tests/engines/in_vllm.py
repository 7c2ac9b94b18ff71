"""vLLM as a second engine: generate from checkpoints, all of them in one process of its own.

The variable VLLM_PYTHON names the interpreter of an environment with vLLM, which asks for other
versions of torch and transformers than easyep's tests.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.engines.greedy import NEW_TOKENS, PROMPTS, Greedy, Prompts

SCRIPT = Path(__file__).parent / "scripts/generate_in_vllm.py"

# One thread, no thread bound to a core, a cache of 1 GiB, everything in one process.
ON_A_CPU = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # Its MLA for CPUs is made for the sizes of the released DeepSeek models alone.
    "VLLM_MLA_DISABLE": "1",
}


@dataclass(frozen=True)
class Job:
    """A checkpoint to generate from.

    Attributes:
        path: the checkpoint.
        prompts: token ids.
        overrides: entries of its configuration that vLLM is to read otherwise.
    """

    path: Path
    prompts: Prompts = field(default_factory=lambda: PROMPTS)
    overrides: Mapping[str, Any] = field(default_factory=dict)


def missing() -> str | None:
    """What is not here, or None."""
    if "VLLM_PYTHON" not in os.environ:
        return "VLLM_PYTHON does not name the interpreter of an environment with vLLM"
    return None


def in_vllm(jobs: Mapping[str, Job], scratch: Path) -> dict[str, Greedy]:
    """What vLLM generates for each job, in float32."""
    asked = scratch / "jobs.json"
    outputs = {name: scratch / f"{i}.npz" for i, name in enumerate(jobs)}
    described = [
        {
            "model": str(job.path),
            "prompts": job.prompts,
            "overrides": job.overrides,
            "output": str(outputs[name]),
        }
        for name, job in jobs.items()
    ]
    asked.write_text(json.dumps(described))
    done = subprocess.run(
        [os.environ["VLLM_PYTHON"], SCRIPT, asked, str(NEW_TOKENS)],
        env={**os.environ, **ON_A_CPU},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"vLLM ended with {done.returncode}\n{done.stderr[-3000:]}"
    found = {}
    for name, output in outputs.items():
        with np.load(output) as saved:
            found[name] = Greedy(saved["tokens"], saved["logits"])
    return found


def version() -> str:
    """vLLM's; the package is called vllm-cpu where it is built for CPUs."""
    asked = "from importlib.metadata import packages_distributions, version\n"
    asked += "print(version(packages_distributions()['vllm'][0]))"
    done = subprocess.run(
        [os.environ["VLLM_PYTHON"], "-c", asked], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
