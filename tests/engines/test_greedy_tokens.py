"""A pruned checkpoint generates what the original does with the other experts out of reach."""

import numpy as np
import pytest

from easyep.checkpoint.verification import verify
from easyep.masking import mask
from easyep.source import Source
from tests.engines.cases import Checkpoints
from tests.engines.greedy import assert_same, in_transformers
from tests.tiny_models import load

pytestmark = pytest.mark.slow


def test_as_the_masked_original_and_again_once_verified(checkpoints: Checkpoints) -> None:
    case, selection = checkpoints.case, checkpoints.selection
    original = load(case.family, checkpoints.source, **case.masked)
    untouched = in_transformers(original)
    source = Source.open(checkpoints.source)
    mask(original, selection, source.architecture, source.layout)
    expected = in_transformers(original)
    assert not np.array_equal(expected.tokens, untouched.tokens), "the mask changed nothing"

    before = in_transformers(load(case.family, checkpoints.path))
    assert_same(before, expected, tolerance=1e-4)

    assert verify(checkpoints.path, checkpoints.source).ok
    after = in_transformers(load(case.family, checkpoints.path))
    assert_same(after, before, tolerance=0.0)
