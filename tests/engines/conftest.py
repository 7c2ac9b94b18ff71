"""Tiny pruned checkpoints, made once."""

import pytest

from tests.engines.cases import CASES, Checkpoints, make


@pytest.fixture(scope="session", params=CASES, ids=lambda case: case.name)
def checkpoints(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoints:
    """Each of CASES, built and pruned."""
    return make(request.param, tmp_path_factory.mktemp("engines"))
