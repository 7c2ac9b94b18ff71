"""Greedy tokens of llama.cpp.

    python generate.py MODEL.gguf PROMPTS.npy NEW OUTPUT.npz

PROMPTS holds token ids [P, T]; NEW is how many tokens to generate for each. OUTPUT gets `tokens`
[P, NEW] and `logits` [P, NEW, V], float32. A process of its own, because llama.cpp ends the
process that it runs in when one of its assertions fails.
"""

import sys

import llama_cpp
import numpy as np


def main(model: str, prompts: str, new: int, output: str) -> None:
    asked = np.load(prompts)
    llm = llama_cpp.Llama(
        model,
        n_ctx=int(asked.shape[1]) + new,
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
        fed = prompt.tolist()
        for step in range(new):
            llm.eval(fed)
            logits[row, step] = llm.scores[llm.n_tokens - 1]
            fed = [int(logits[row, step].argmax())]
            tokens[row, step] = fed[0]
    np.savez(output, tokens=tokens, logits=logits)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
