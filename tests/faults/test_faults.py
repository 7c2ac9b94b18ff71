"""What befalls a command loses nothing, leaves nothing half, and is told clearly.

benchmarks/faults.py does the same to every command, more often.
"""

import random
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, make_inputs
from tests.faults.disks import may_mount
from tests.faults.processes import Done
from tests.faults.striking import FAULTS, Undisturbed, fault, undisturbed

# These have no work directory; and where memory ends is up to the machine.
NOT_HERE = ["damaged work", "memory"]
CERTAIN = ["full disk", "no permission"]
QUICK = ["score", "rewrite", "stability"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    make_inputs(folder / "inputs")
    return folder


@pytest.fixture(scope="module", params=QUICK)
def usual(request: pytest.FixtureRequest, base: Path) -> tuple[str, Undisturbed]:
    return request.param, undisturbed(COMMANDS[request.param], base / f"usual {request.param}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind not in NOT_HERE])
def test_a_fault(base: Path, usual: tuple[str, Undisturbed], kind: str) -> None:
    name, expected = usual
    if kind == "filling disk" and not may_mount(base):
        pytest.skip("this user may not mount")
    hit = fault(kind, COMMANDS[name], base / f"{name} {kind}", expected, random.Random(kind + name))
    assert hit or kind not in CERTAIN


@pytest.mark.parametrize(
    ("code", "said", "clear"),
    [
        (0, "", True),
        (1, "easyep: error: no\n", True),
        (1, "", False),
        (1, "easyep: error: a\neasyep: error: b\n", False),
        (1, "Traceback (most recent call last)\neasyep: error: no\n", False),
        (1, "easyep: error: unexpected KeyError: (this is a fault of easyep; ...)\n", False),
        (130, "easyep: error: interrupted\n", True),
        (143, "easyep: error: terminated\n", True),
        (143, "", False),
        (-9, "", True),
    ],
)
def test_what_is_clear(code: int, said: str, clear: bool) -> None:
    assert Done(code, said).clear == clear
