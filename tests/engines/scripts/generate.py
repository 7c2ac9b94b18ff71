"""Greedy tokens of llama.cpp.

    python generate.py MODEL.gguf PROMPTS.json NEW OUTPUT.npz

PROMPTS is a list of P lists of token ids; NEW is how many tokens to generate after each. OUTPUT
gets `tokens` [P, NEW] and `logits` [P, NEW, V], float32. It is a process of its own, because
llama.cpp ends the process that it runs in when one of its assertions fails.
"""

import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np


def main(model: str, prompts: str, new: int, output: str) -> None:
    asked = json.loads(Path(prompts).read_text())
    llm = llama_cpp.Llama(
        model,
        n_ctx=max(map(len, asked)) + new,
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
    )
    tokens = np.zeros((len(asked), new), dtype=np.int64)
    logits = np.zeros((len(asked), new, llm.n_vocab()), dtype=np.float32)
    for row, prompt in enumerate(asked):
        llm.reset()
        fed = prompt
        for step in range(new):
            llm.eval(fed)
            logits[row, step] = llm.scores[llm.n_tokens - 1]
            fed = [int(logits[row, step].argmax())]
            tokens[row, step] = fed[0]
    np.savez(output, tokens=tokens, logits=logits)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
