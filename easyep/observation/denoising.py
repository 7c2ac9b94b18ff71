"""What a diffusion language model is shown of a demonstration: the text with a part of it hidden.

Such a model writes by filling in what is hidden, in steps from nearly all of it to nearly none, so
its experts are observed at several shares of hidden tokens, with the same demonstrations. Only
response tokens are hidden (all tokens, where a demonstration has none): that is what the model is
asked for. A greater share hides what a smaller one does and more, as the steps of one answer do.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from easyep.artifacts import TokenSequence


@dataclass(frozen=True)
class Denoising:
    """How a diffusion model is observed.

    Attributes:
        kind: how it sees the text: ``"full"``, every token sees every other (LLaDA-MoE);
            ``"blocks"``, a block sees itself and, finished, the ones before it (LLaDA2); or
            ``"canvas"``, as blocks, with an encoder for what is finished (DiffusionGemma).
        ratios: the shares of tokens that are hidden, each in (0, 1].
        mask_token: the id that hides a token; None = a random id does.
        vocabulary: ids are below this.
        block: tokens per block.
    """

    kind: str
    ratios: tuple[float, ...]
    mask_token: int | None
    vocabulary: int
    block: int = 32

    def corrupted(self, sequence: TokenSequence, ratio: float) -> npt.NDArray[np.int64]:
        """The ids of a demonstration, int64 [T], that share of them hidden."""
        may = np.flatnonzero(sequence.is_response)
        if not len(may):
            may = np.arange(len(sequence))
        random = np.random.default_rng(int(sequence.sha256[:16], 16))
        order, noise = random.permutation(may), random.integers(0, self.vocabulary, len(sequence))
        hidden = order[: max(1, round(ratio * len(may)))]
        ids = sequence.input_ids.copy()
        ids[hidden] = noise[hidden] if self.mask_token is None else self.mask_token
        return ids


@dataclass(frozen=True)
class View:
    """One forward pass over a demonstration.

    Attributes:
        tokens: what is read.
        allowed: bool [N, N], which token (row) sees which; None = every one sees every other.
        positions: int64 [N].
    """

    tokens: TokenSequence
    allowed: Tensor | None
    positions: Tensor


def views(sequence: TokenSequence, how: Denoising) -> Iterator[View]:
    """A demonstration at every ratio of `how`, for models without an encoder.

    In blocks, finished text and the text that is filled in stand side by side, as in the model's
    training: a block in work sees itself and the finished blocks before it. So one pass is as good
    as one per block, and finished tokens are recorded beside those in work, as both are computed
    when the model writes.
    """
    count = len(sequence)
    for ratio in how.ratios:
        ids = how.corrupted(sequence, ratio)
        if how.kind == "full":
            yield View(TokenSequence(ids, sequence.is_response), None, torch.arange(count))
            continue
        changed = np.flatnonzero(sequence.is_response)
        first = int(changed[0]) // how.block * how.block if len(changed) else 0
        positions = torch.cat([torch.arange(count), torch.arange(first, count)])
        block, in_work = positions // how.block, torch.arange(len(positions)) >= count
        finished = ~in_work[None, :] & torch.where(
            in_work[:, None], block[None, :] < block[:, None], block[None, :] <= block[:, None]
        )
        same = (in_work[:, None] & in_work[None, :]) & (block[None, :] == block[:, None])
        tokens = TokenSequence(
            np.concatenate([sequence.input_ids, ids[first:]]),
            np.concatenate([sequence.is_response, sequence.is_response[first:]]),
        )
        yield View(tokens, finished | same, positions)
