"""The architecture, as a failing test: imports point one way, and torch stays where models run."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import easyep

PACKAGE = Path(easyep.__file__).parent

# Rooms from the ground up. A room imports only from lower lines: those of one line, the stages
# among them, do not know each other.
ORDER = [
    ["errors"],
    [
        "addresses",
        "registry",
        "progress",
        "resources",
        "atomic",
        "clock",
        "time_limit",
        "memory",
        "processor",
        "yaml_text",
        "panics",
        "given_files",
        "strict_json",
    ],
    ["choices", "passing_folder", "launcher", "allocation_limit", "runner_names"],
    ["architectures", "memory_limits", "deepspeed_settings"],
    ["artifacts", "distributed"],
    ["hub", "tokenizer_files"],
    ["models", "criteria", "checkpoint", "mixing", "placing"],
    ["loading", "weighing", "places"],
    ["source"],
    ["masking"],
    [
        "demonstrations",
        "observation",
        "scoring",
        "selection",
        "evaluation",
        "reporting",
        "demo_model",
    ],
    ["recipe", "overlap", "gathering", "records"],
    ["diffusion"],
    ["runs"],
    ["stream_plan"],
    ["stream_probe"],
    ["streams"],
    ["runners"],
    ["observing"],
    ["calibration", "deciding"],
    ["planning", "comparing", "redoing"],
    ["one_read"],
    ["pipeline", "presenting", "queries", "measuring"],
    ["study"],
    ["running"],
    ["cli"],
    ["__main__"],
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

HEAVY = {"torch", "transformers", "lm_eval", "datasets", "accelerate", "deepspeed"}
RUNS_MODELS = {"observation", "demo_model", "masking", "comparing"}


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, at_import_time: bool) -> set[str]:
    """Full names of what a module imports; with `at_import_time`, not those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if at_import_time and (inside or typing_only):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending += ast.iter_child_nodes(node)
    return found


def test_every_room_has_its_place():
    assert {room_of(path) for path in modules()} == set(RANK)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path):
    here = room_of(path)
    for name in imports(path, at_import_time=False):
        if name.startswith("easyep."):
            there = name.split(".")[1]
            if there not in RANK:  # a name of the package itself, such as __version__
                continue
            assert there == here or RANK[there] < RANK[here], f"{here} imports {there}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_is_imported_only_where_a_model_runs(path: Path):
    if room_of(path) not in RUNS_MODELS:
        heavy = {name.split(".")[0] for name in imports(path, at_import_time=True)} & HEAVY
        assert not heavy, f"{path} imports {heavy} at import time"


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "prune --help",
        "list criteria",
        "inspect demo",
        "select --scores nothing.json --output s.json",
        "rewrite --model demo --selection nothing.json --output d",
        "verify nothing",
    ],
)
def test_commands_that_need_no_model_run_without_torch(command, tmp_path):
    program = (
        "import sys; from easyep.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"heavy = {sorted(HEAVY)!r}\n"
        "assert not any(name in sys.modules for name in heavy), sorted(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_file_holds_two_ideas():
    long = {p: n for p in modules() if (n := len(p.read_text().splitlines())) > 320}
    assert not long
