"""What two models predict for one token."""

from math import log

import pytest
import torch

from easyep.comparing.predictions import divergence


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
