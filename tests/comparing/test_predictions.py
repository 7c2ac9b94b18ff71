"""What two models predict for one token."""

from math import inf, log, nan

import numpy as np
import pytest
import torch

from easyep.comparing.predictions import _distances, divergence
from easyep.errors import EvaluationError


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ([0.5, 0.25, 0.25], [0.25, 0.25, 0.5], 0.25 * log(2)),  # 0.5 ln 2 + 0.25 ln 0.5
        ([1 / 3, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3], 0.0),
        ([0.5, 0.5, 0.0], [0.25, 0.75, 0.0], 0.5 * log(2) + 0.5 * log(2 / 3)),
        ([1.0, 0.0, 0.0], [0.5, 0.25, 0.25], log(2)),
        ([0.5, 0.5, 0.0], [1.0, 0.0, 0.0], float("inf")),
    ],
)
def test_divergence_of_known_distributions(p, q, expected):
    found = divergence(*(torch.tensor([each], dtype=torch.float64).log() for each in (p, q)))
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("row", [[nan, nan, nan], [0.0, nan, 1.0], [inf, inf, 0.0]])
def test_what_is_no_number_is_no_agreement(which, row):
    numbers = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]], np.float32)
    broken = numbers.copy()
    broken[1] = row
    first, second = (broken, numbers) if which == "first" else (numbers, broken)
    with pytest.raises(EvaluationError, match=f"the {which} model predicts no numbers"):
        _distances(first, torch.from_numpy(second), torch.tensor([0, 1]))


def test_what_a_model_excludes_is_no_fault():
    logits = np.array([[1.0, -inf, 3.0]], np.float32)
    found = _distances(logits, torch.from_numpy(logits), torch.tensor([0]))
    assert (found.divergence.tolist(), found.agreement.tolist()) == ([0.0], [1.0])
