"""A streaming run that is killed at any point goes on to what an undisturbed one ends with."""

import multiprocessing
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import easyep

KILLS = 20
LONGEST = 120  # seconds that one run may take


def observe(output: str, records: str) -> None:
    """What each process does."""
    easyep.observe(
        "demo",
        domain="math",
        n_demos=4,
        runner="stream",
        mtp="score",
        device="cpu",
        records=records,
        output=output,
    )


def start(output: Path, records: str) -> BaseProcess:
    # A server that has imported everything forks: a run begins at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "easyep.observation.streaming", "easyep.pipeline"])
    process = context.Process(target=observe, args=(str(output), records))
    process.start()
    return process


def finish(process: BaseProcess) -> None:
    process.join(LONGEST)
    late = process.is_alive()
    process.kill()
    assert not late, f"a run of some seconds did not end within {LONGEST}"
    assert process.exitcode == 0


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("records", ["full", "none"])
def test_kills_at_random_points(tmp_path: Path, records: str) -> None:
    whole = tmp_path / "undisturbed"
    finish(start(tmp_path / "first", records))  # starts the server
    begin = time.monotonic()
    finish(start(whole, records))
    seconds = time.monotonic() - begin
    expected = files(whole)
    draw = random.Random(0)
    went_on = set()
    kills = attempt = 0
    while kills < KILLS:
        attempt += 1
        output = tmp_path / f"run-{attempt}"
        running = start(output, records)
        time.sleep(draw.uniform(0, seconds))
        running.kill()
        running.join()
        if output.exists():  # it was quicker
            seconds *= 0.8
            assert files(output) == expected
            continue
        kills += 1
        finished = list(tmp_path.glob(f".{output.name}.*/state/finished.json"))
        went_on |= {file.read_text() for file in finished}
        if not finished:  # it was slower
            seconds *= 1.1
        finish(start(output, records))
        assert files(output) == expected
        # What it went on from is gone. A kill while files are saved or removed may leave others.
        assert not list(tmp_path.glob(f".{output.name}.*.part"))
    assert len(went_on) > 1  # behind several layers
