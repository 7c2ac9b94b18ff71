"""llama.cpp as a second engine: convert a checkpoint, generate from it.

The converter is no part of the package `llama_cpp`. The variable LLAMA_CPP_SOURCE names the
directory with `convert_hf_to_gguf.py`, such as `vendor/llama.cpp` in the package's source.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tests.engines.greedy import NEW_TOKENS, PROMPTS, Greedy, Prompts

SCRIPTS = Path(__file__).parent / "scripts"


def missing() -> str | None:
    """What is not here, or None."""
    if find_spec("llama_cpp") is None:
        return "the package llama_cpp (llama-cpp-python) is not installed"
    if "LLAMA_CPP_SOURCE" not in os.environ:
        return "LLAMA_CPP_SOURCE does not name the directory of convert_hf_to_gguf.py"
    if not _converter().is_file():
        return f"{_converter()} does not exist"
    return None


def in_llama_cpp(path: Path, scratch: Path, prompts: Prompts = PROMPTS) -> Greedy:
    """What llama.cpp generates after each prompt from the checkpoint in `path`, in float32."""
    asked, output = scratch / "prompts.json", scratch / "out.npz"
    model = convert(path, scratch / "model.gguf")
    asked.write_text(json.dumps(prompts))
    _run(SCRIPTS / "generate.py", model, asked, NEW_TOKENS, output)
    with np.load(output) as saved:
        return Greedy(saved["tokens"], saved["logits"])


def convert(path: Path, output: Path) -> Path:
    """The checkpoint in `path` as a GGUF file in float32."""
    _run(SCRIPTS / "convert.py", _converter(), path, "--outfile", output, "--outtype", "f32")
    return output


def _converter() -> Path:
    return Path(os.environ["LLAMA_CPP_SOURCE"]) / "convert_hf_to_gguf.py"


def _run(*arguments: object) -> None:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stderr[-3000:]}"
