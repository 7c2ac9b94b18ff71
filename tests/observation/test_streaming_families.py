"""Every family that the in-memory recorder works for, streamed from its files: records agree."""

from pathlib import Path

import pytest

from easyep.architectures.spec import find_architecture
from easyep.checkpoint.files import Checkpoint
from easyep.errors import ObservationError
from easyep.loading import load_model
from easyep.observation.multi_token import load_mtp
from tests.observation.test_streaming import assert_agree
from tests.tiny_models import RUNNABLE, WITH_MTP, build

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", RUNNABLE)
def test_records_agree_with_those_of_the_whole_model(tmp_path: Path, family: str) -> None:
    path = build(family, tmp_path / "m")
    notes = find_architecture(Checkpoint.open(path).config).observation
    if notes.diffusion is not None:
        pytest.skip("a diffusion model is run from memory")
    # Sums over experts are formed in another order: float32 rounds otherwise.
    assert_agree(path, rtol=1e-5, stream=notes.stream)


@pytest.mark.parametrize("family", sorted(set(RUNNABLE) & set(WITH_MTP)))
def test_mtp_layers_wherever_transformers_runs_them(tmp_path: Path, family: str) -> None:
    path = build(family, tmp_path / "m", mtp=1)
    try:
        load_mtp(load_model(path, device="cpu"))
    except ObservationError as error:
        pytest.skip(str(error))
    assert_agree(path, rtol=1e-5, with_mtp=True)
