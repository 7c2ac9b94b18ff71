"""What two models predict for each token of the same text, one model in memory at a time.

The first model's logits go to files, as they are; the second one's meet them there, in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from easyep.artifacts import TokenSequence
from easyep.atomic import writing
from easyep.errors import EvaluationError
from easyep.progress import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Floats = NDArray[np.float64]
_AT_ONCE = 1 << 23  # numbers in float64: 64 MiB


@dataclass(frozen=True)
class Distances:
    """What the second model makes of one demonstration, against the first; all float64 [T].

    Attributes:
        divergence: KL(P || Q) in nats, P the first model's distribution, Q the second one's.
        agreement: 1 where both find the same token likeliest, else 0.
        first_loss, second_loss: -log of the true token's probability, in nats.
    """

    divergence: Floats
    agreement: Floats
    first_loss: Floats
    second_loss: Floats


def counted(sequence: TokenSequence, tokens: str) -> NDArray[np.int64]:
    """The positions whose next token counts.

    Args:
        sequence: the demonstration.
        tokens: ``"response"``: those of the response, or all where there is none; ``"all"``.
    """
    count = sequence.is_response[1:]
    if tokens == "all" or not count.any():
        count = np.ones_like(count)
    return np.flatnonzero(count)


@torch.inference_mode()
def write_predictions(
    model: "PreTrainedModel",
    sequences: Sequence[TokenSequence],
    tokens: str,
    folder: Path,
    done: Task,
) -> None:
    """Write the logits of each demonstration's counted positions to ``N.npy``: float32, [T, V].

    Raises:
        OutputError: a file cannot be written.
    """
    for i, sequence in enumerate(sequences):
        logits = _logits(model, sequence, tokens).cpu().numpy()
        file = folder / f"{i}.npy"
        with writing(file):
            np.save(file, logits)
        done.advance(len(sequence))


@torch.inference_mode()
def read_distances(
    model: "PreTrainedModel",
    sequences: Sequence[TokenSequence],
    tokens: str,
    folder: Path,
    done: Task,
) -> list[Distances]:
    """Run the second model, of the same vocabulary, and hold it against what was written."""
    found = []
    for i, sequence in enumerate(sequences):
        second = _logits(model, sequence, tokens)
        first = np.load(folder / f"{i}.npy", mmap_mode="r")
        following = torch.from_numpy(sequence.input_ids[counted(sequence, tokens) + 1])
        found.append(_distances(first, second, following))
        done.advance(len(sequence))
    return found


def _logits(model: "PreTrainedModel", sequence: TokenSequence, tokens: str) -> Tensor:
    """Of the counted positions, float32 [T, V]."""
    ids = torch.from_numpy(sequence.input_ids)[None].to(model.device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0]
    rows = torch.from_numpy(counted(sequence, tokens)).to(logits.device)
    return logits[rows].float()


def _distances(first: NDArray[np.float32], second: Tensor, following: Tensor) -> Distances:
    """Distances in float64, some positions at a time.

    Args:
        first: logits [T, V].
        second: logits [T, V].
        following: [T], the true tokens.

    Raises:
        EvaluationError: a model predicts no numbers.
    """
    parts = []
    step = max(1, _AT_ONCE // max(1, first.shape[1]))
    for begin in range(0, len(first), step):
        rows = slice(begin, begin + step)
        p = torch.from_numpy(np.array(first[rows])).double().log_softmax(-1)
        q = second[rows].cpu().double().log_softmax(-1)
        check_numbers(p, "the first model")
        check_numbers(q, "the second model")
        true = following[rows, None]
        parts.append(
            torch.stack(
                [
                    divergence(p, q),
                    (p.argmax(-1) == q.argmax(-1)).double(),
                    -p.gather(1, true)[:, 0],
                    -q.gather(1, true)[:, 0],
                ]
            )
        )
    return Distances(*torch.cat(parts, dim=1).numpy())


def check_numbers(predicted: Tensor, whose: str) -> None:
    """Check log-probabilities: one that is no number would count as agreement.

    Raises:
        EvaluationError: there is one.
    """
    if predicted.isnan().any():
        raise EvaluationError(
            f"{whose} predicts no numbers for some tokens: the type that it computes in is too "
            "narrow, or its weights are broken; --dtype float32 (dtype in recipes) tells"
        )


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of each row of log-probabilities [T, V], in nats, in their type: [T].

    What p excludes adds nothing, whatever q says.
    """
    shares = p.exp()
    return torch.where(shares > 0, shares * (p - q), 0.0).sum(-1)
