"""The command line behind the launchers that start several processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from easyep.artifacts import Observations
from tests.ranks import free_port

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
OBSERVE = "observe --model demo --domain math --n-demos 5 --dtype float32 --device cpu --mtp drop"
OBSERVE += " --peer-timeout 60"
LONGEST, ENDING = 300, 60  # seconds that a launcher may take, and may take to end its processes
STARTED: list[subprocess.Popen[str]] = []
# Rank 1 fails in its second batch, as if memory had run out.
FAILING = """
import os, sys
from easyep.cli import main
os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"
from easyep.observation import in_memory
pad, calls = in_memory._pad, []
def failing(*arguments):
    calls.append(1)
    if os.environ["RANK"] == "1" and len(calls) == 2:
        raise MemoryError("no room")
    return pad(*arguments)
in_memory._pad = failing
main(sys.argv[1:])
"""


def start(command: list[str], root: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    environment |= {"PATH": f"{BIN}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    STARTED.append(process)
    return process


def finish(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=LONGEST)[0]


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    yield
    for process in STARTED:
        process.terminate()  # launchers end what they have started, which has sessions of its own
    while STARTED:
        process = STARTED.pop()
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def torchrun(*options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    output = tmp_path_factory.mktemp("alone") / "math"
    process = start(
        [sys.executable, "-m", "easyep", *OBSERVE.split(), "--output", str(output)], root
    )
    said = finish(process)
    assert process.returncode == 0, said
    return output


def test_three_processes_under_torchrun(alone: Path, tmp_path: Path, root: Path) -> None:
    output = tmp_path / "math"
    command = [*torchrun("--standalone", "--nproc_per_node", "3"), "-m", "easyep"]
    process = start(
        [*command, *OBSERVE.split(), "--runner", "memory", "--output", str(output)], root
    )
    said = finish(process)
    assert process.returncode == 0, said
    assert files(output) == files(alone)
    assert said.count("5 demonstrations") == 1


def test_two_processes_under_accelerate(alone: Path, tmp_path: Path, root: Path) -> None:
    output = tmp_path / "math"
    launcher = [str(BIN / "accelerate"), "launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--main_process_port", str(free_port())]
    process = start(
        [
            *[*launcher, "-m", "easyep", *OBSERVE.split()],
            *["--runner", "memory", "--output", str(output)],
        ],
        root,
    )
    said = finish(process)
    assert process.returncode == 0, said
    assert said.count("2 processes run, each its share of the demonstrations") == 1
    assert files(output) == files(alone)


def test_two_nodes(alone: Path, tmp_path: Path, root: Path) -> None:
    output, port = tmp_path / "math", str(free_port())
    node = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1"]
    processes = [
        start(
            [
                *torchrun(*node, "--node_rank", str(number), "--master_port", port),
                *["-m", "easyep", *OBSERVE.split(), "--runner", "memory"],
                *["--output", str(output)],
            ],
            root,
        )
        for number in range(2)
    ]
    said = [finish(process) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert files(output) == files(alone)


def test_deepspeed_and_its_launcher(alone: Path, tmp_path: Path, root: Path) -> None:
    output = tmp_path / "math"
    launcher = [str(BIN / "deepspeed"), "--num_gpus", "2", "--master_port", str(free_port())]
    process = start(
        [
            *[*launcher, "--module", "easyep", *OBSERVE.split()],
            *["--runner", "deepspeed", "--mtp", "auto", "--output", str(output)],
        ],
        root,
    )
    said = finish(process)
    assert process.returncode == 0, said
    expected, found = Observations.load(alone), Observations.load(output)
    assert json.loads((output / "observations.json").read_text())["runner"] == "deepspeed"
    for layer, record in expected.layers.items():
        mine = found.layers[layer]
        assert np.array_equal(mine.expert_ids, record.expert_ids)
        np.testing.assert_allclose(mine.output_norms, record.output_norms, rtol=1e-4)


def test_one_error_names_rank_and_cause(tmp_path: Path, root: Path) -> None:
    script, output = tmp_path / "failing.py", tmp_path / "math"
    script.write_text(FAILING)
    command = [*torchrun("--standalone", "--nproc_per_node", "3"), str(script)]
    process = start(
        [*command, *OBSERVE.split(), "--runner", "memory", "--output", str(output)], root
    )
    said = finish(process)
    assert process.returncode != 0
    errors = [line for line in said.splitlines() if line.startswith("easyep: error:")]
    assert len(errors) == 1, said
    assert "rank 1 of 3 on " in errors[0]
    assert "memory ran out (no room)" in errors[0]
    assert not output.exists()
