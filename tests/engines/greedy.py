"""What an engine generates greedily, and how two of them compare."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from easyep.artifacts.selection import Selection

NEW_TOKENS = 32
Prompts = list[list[int]]
PROMPTS: Prompts = np.random.default_rng(11).integers(4, 260, size=(3, 7)).tolist()


@dataclass(frozen=True)
class Greedy:
    """Generated `tokens` [P, N], and the `logits` [P, N, V] that each was the largest of."""

    tokens: np.ndarray
    logits: np.ndarray

    @property
    def smallest_margin(self) -> float:
        """The smallest lead of a generated token's logit over the next."""
        two = np.sort(self.logits, axis=-1)[..., -2:]
        return float((two[..., 1] - two[..., 0]).min())

    def largest_difference(self, other: "Greedy") -> float:
        """Of the two's logits; they mean the same only while the tokens before agree."""
        return float(np.abs(self.logits - other.logits).max())


def in_transformers(model: Any, prompts: Prompts = PROMPTS) -> Greedy:
    """What a model of transformers generates after each prompt."""
    tokens, logits = [], []
    for prompt in prompts:
        out = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens.append(out.sequences[0, len(prompt) :].numpy())
        logits.append(torch.cat(out.logits).float().numpy())
    return Greedy(np.stack(tokens), np.stack(logits))


def assert_same(ours: Greedy, theirs: Greedy, tolerance: float) -> None:
    """The same tokens, with logits that differ by at most `tolerance`."""
    np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    difference = ours.largest_difference(theirs)
    assert difference <= tolerance, f"logits differ by {difference}"
    # Or else equal tokens would say little about the engines.
    assert len(np.unique(ours.tokens)) > 16, "the model repeats itself"
    assert ours.smallest_margin > 4 * difference, "too close to call"


def compared(selection: Selection | None, ours: Greedy, theirs: Greedy) -> dict[str, Any]:
    """The numbers of one case; `ours` is transformers', without `selection` nothing is pruned."""
    equal = ours.tokens == theirs.tokens
    return {
        "pruned": selection
        and {
            "experts": selection.num_experts,
            "kept": selection.keep,
            "groups": selection.groups,
        },
        "tokens": equal.size,
        "equal_tokens": int(np.cumprod(equal, axis=1).sum()),  # before the first that differs
        "distinct_tokens": len(np.unique(ours.tokens)),
        "smallest_margin": ours.smallest_margin,
        "largest_logit_difference": ours.largest_difference(theirs) if equal.all() else None,
        "largest_logit_difference_at_first": float(
            np.abs(ours.logits[:, 0] - theirs.logits[:, 0]).max()
        ),
    }
