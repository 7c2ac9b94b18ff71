"""What passes hold while they wait may lie in a file."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from easyep.errors import OutputError
from easyep.observation import spilling
from easyep.observation.weights.partial import PartialModel
from tests.faults.disks import may_mount, small_disk
from tests.observation.test_streaming import FAMILIES, SEQUENCES, assert_equal, partial, streamed
from tests.tiny_models import build


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return build("qwen3_moe", tmp_path / "m")


def test_only_what_a_pass_has_made_and_holds_is_taken_from_it(tmp_path: Path) -> None:
    weight = torch.ones(200, 300)
    made = spilling.Made()
    with made:
        inputs = torch.ones(100, 200)
        views, output = weight.t(), (inputs @ weight)
        gone = output * 2
        del gone
        part = output[10:20]
    seen_by_numpy = torch.ones(100, 300).numpy()
    expected = output.clone(), inputs.clone()
    with spilling.Spill(0, tmp_path) as spill:
        resting = spill.rest(made)
        assert (inputs.untyped_storage().nbytes(), part.untyped_storage().nbytes()) == (0, 0)
        assert spill.bytes_written == 4 * (100 * 200 + 100 * 300)
        resting.wake()
        assert torch.equal(output, expected[0])
        assert torch.equal(inputs, expected[1])
        assert torch.equal(part, expected[0][10:20])
        size = spill._end
        spill.rest(made).wake()
        assert spill._end == size  # the same place again
    assert views.shape == (300, 200)
    assert seen_by_numpy.shape == (100, 300)


def test_memory_of_a_file(tmp_path: Path) -> None:
    like = torch.ones(3, 5, dtype=torch.bfloat16)
    with spilling.Spill(0, tmp_path) as spill:
        outside = spill.outside(like)
    assert outside.dtype == like.dtype
    assert torch.equal(outside, torch.zeros_like(like))
    outside += 1
    assert torch.equal(outside, like)
    assert list(tmp_path.iterdir()) == []


_FILL = """
import sys, torch
from pathlib import Path
from easyep.errors import OutputError
from easyep.observation.spilling import Spill
try:
    Spill(0, Path(sys.argv[1])).outside(torch.empty(1_000_000)).fill_(1.0)
except OutputError as error:
    sys.exit(str(error))
"""


def test_memory_of_a_file_on_a_full_disk_is_refused_before_it_is_used(tmp_path: Path) -> None:
    if not may_mount(tmp_path):
        pytest.skip("this process may not mount")
    with small_disk(tmp_path, 1 << 20):
        done = subprocess.run(
            [sys.executable, "-c", _FILL, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.stderr.strip() == f"cannot write {tmp_path}: {os.strerror(errno.ENOSPC)}"


def test_a_folder_that_is_not_there_or_full_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputError, match="cannot write .*gone"):
        spilling.Spill(0, tmp_path / "gone")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with spilling.Made() as made:
        held = torch.ones(200, 300) + 1
    with spilling.Spill(0, tmp_path) as spill:
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OutputError, match="No space left"):
            spill.rest(made)
    assert held.shape == (200, 300)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", [0, 10_000])
def test_what_waits_may_lie_in_a_file(
    tmp_path: Path, family: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spilling, "SMALLEST", 64)
    path = build(family, tmp_path / "m")
    expected = streamed(partial(path))
    with spilling.Spill(budget, tmp_path) as spill:
        found = streamed(partial(path), spill=spill)
    assert spill.bytes_written > 0
    assert spill.held == 0
    assert_equal(found, expected)
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_a_large_budget_writes_nothing(tiny: Path, tmp_path: Path) -> None:
    with spilling.Spill(10**9, tmp_path) as spill:
        assert_equal(streamed(partial(tiny), spill=spill), streamed(partial(tiny)))
    assert spill.bytes_written == 0


def test_passes_that_wait_hold_no_more_than_the_budget(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spilling, "SMALLEST", 64)
    held: list[int] = []
    original = PartialModel.drop_layer

    def peak(budget: int) -> int:
        held.clear()
        with spilling.Spill(budget) as spill:

            def spy(self: PartialModel, layer: int) -> None:
                held.append(spill.held)
                original(self, layer)

            monkeypatch.setattr(PartialModel, "drop_layer", spy)
            streamed(partial(tiny), SEQUENCES * 4, spill=spill)
        return max(held)

    assert peak(20_000) <= 20_000 < peak(10**9)
