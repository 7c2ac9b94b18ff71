"""Greedy tokens of vLLM, of several checkpoints in one process: its import takes half a minute.

    python generate_in_vllm.py JOBS.json NEW

JOBS is a list of objects with `model`, a directory; `prompts`, P lists of token ids; `overrides`,
entries of the configuration; `output`, a file that gets `tokens` [P, NEW] and `logits` [P, NEW, V],
float32.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import vllm


def generate(job: dict[str, Any], new: int) -> None:
    prompts = job["prompts"]
    llm = vllm.LLM(
        job["model"],
        dtype="float32",
        max_model_len=max(map(len, prompts)) + new,
        enforce_eager=True,
        enable_prefix_caching=False,
        skip_tokenizer_init=True,
        hf_overrides=job["overrides"],
        max_logprobs=-1,
        logprobs_mode="raw_logits",
    )
    asked = vllm.SamplingParams(
        temperature=0.0, max_tokens=new, ignore_eos=True, logprobs=-1, detokenize=False
    )
    answers = llm.generate([{"prompt_token_ids": each} for each in prompts], asked, use_tqdm=False)
    found = [answer.outputs[0] for answer in answers]
    tokens = np.array([each.token_ids for each in found])
    steps = [
        [[step[i].logprob for i in range(len(step))] for step in each.logprobs] for each in found
    ]
    np.savez(job["output"], tokens=tokens, logits=np.array(steps, dtype=np.float32))
    llm.llm_engine.engine_core.shutdown()


def main(jobs: str, new: int) -> None:
    for job in json.loads(Path(jobs).read_text()):
        generate(job, new)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
