"""Cut short at any moment, a rewrite leaves no target, and the same rewrite goes on."""

import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint.computed import cut_rows
from easyep.checkpoint.copying import Range
from easyep.checkpoint.output_files import OutputShard, OutputTensor
from easyep.checkpoint.resuming import digest
from easyep.checkpoint.rewriting import Rewritten, rewrite
from easyep.checkpoint.work_folder import leftovers
from easyep.errors import CheckpointError, OutputError, VerificationError
from tests.checkpoint.progress import Recorder
from tests.tiny_models import build

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]
SHARD_BYTES = 30_000


@pytest.fixture
def model(source: Sources) -> Path:
    return source("mixtral")


def start(model: Path, selection: Selection, target: Path, **names: Any) -> Rewritten:
    return rewrite(model, selection, target, max_shard_size=SHARD_BYTES, **names)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def interrupt_when_finished(files: int) -> Callable[..., Any]:
    """A progress that interrupts when so many weight files are finished; nothing is at random."""

    class Interrupts(Recorder):
        def advance(self, amount: int = 1) -> None:
            (folder,) = leftovers(target_of[0])
            if len(json.loads((folder / "state.json").read_text())["finished"]) >= files:
                raise KeyboardInterrupt

    target_of: list[Path] = []

    def made(target: Path) -> Recorder:
        target_of.append(target)
        return Interrupts()

    return made


def interrupted(model: Path, selection: Selection, target: Path, files: int = 2) -> Path:
    """The folder that an interrupted rewrite leaves."""
    with pytest.raises(KeyboardInterrupt) as error:
        start(model, selection, target, progress=interrupt_when_finished(files)(target))
    (folder,) = leftovers(target)
    assert not target.exists()
    assert str(folder) in str(error.value)
    assert "the same command goes on" in str(error.value)
    return folder


def finished_in(folder: Path) -> dict[str, dict[str, Any]]:
    state: dict[str, dict[str, Any]] = json.loads((folder / "state.json").read_text())["finished"]
    return state


def test_what_is_planned_tells_computed_tensors_apart() -> None:
    def of(kept: int) -> str:
        change = partial(cut_rows, kept=[[kept]])
        tensor = OutputTensor("x", "U8", (1,), (Range("a", 0, 4),), change)
        shard = OutputShard("a.safetensors", {}, (tensor,))
        return digest(shard, shard.tensors)

    assert of(1) == of(1) != of(2)


def test_finished_files_are_not_written_again(model: Path, choose: Chooser, tmp_path: Path) -> None:
    selection, target = choose(model), tmp_path / "new" / "out"
    folder = interrupted(model, selection, target)
    done = finished_in(folder)
    assert len(done) >= 2
    inodes = {name: (folder / "checkpoint" / name).stat().st_ino for name in done}
    progress = Recorder()
    rewritten = start(model, selection, target, progress=progress)
    assert {name: (target / name).stat().st_ino for name in done} == inodes
    sizes = {name: (target / name).stat().st_size for name in rewritten.shards}
    redone = sum(size for name, size in sizes.items() if name not in done)
    assert progress.tasks[0][1] == sum(sizes[name] for name in done)  # hashed
    assert progress.tasks[-1] == ("writing", redone, "bytes")
    assert [path.name for path in target.parent.iterdir()] == ["out"]
    start(model, selection, tmp_path / "fresh")
    assert contents(target) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("damage", ["flip", "shorter", "gone", "surplus"])
def test_files_that_are_not_what_was_noted_are_written_again(
    model: Path, choose: Chooser, tmp_path: Path, damage: str
) -> None:
    selection, target = choose(model), tmp_path / "out"
    folder = interrupted(model, selection, target)
    first = folder / "checkpoint" / min(finished_in(folder))
    content = bytearray(first.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        first.write_bytes(content)
    elif damage == "shorter":
        os.truncate(first, len(content) - 1)
    elif damage == "gone":
        first.unlink()
    else:
        (folder / "checkpoint" / "model.safetensors").write_bytes(content)
    start(model, selection, target)
    start(model, selection, tmp_path / "fresh")
    assert contents(target) == contents(tmp_path / "fresh")


def test_another_rewrite_leaves_the_folder_alone_and_tells(
    model: Path, choose: Chooser, tmp_path: Path
) -> None:
    selection, target = choose(model), tmp_path / "out"
    folder = interrupted(model, selection, target)
    before = contents(folder)
    rewritten = start(model, choose(model, seed=1), target)
    assert contents(folder) == before
    assert [w for w in rewritten.warnings if str(folder) in w and "can be removed" in w]
    shutil.rmtree(target)
    start(model, selection, target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("content", [None, "", "{}", '{"schema": 1, "purpose": {}}', "[1]", "file"])
def test_a_folder_that_is_not_ours_is_not_touched(
    model: Path, choose: Chooser, tmp_path: Path, content: str | None
) -> None:
    selection, target = choose(model), tmp_path / "out"
    folder = interrupted(model, selection, target)
    shutil.rmtree(folder)
    if content == "file":
        folder.write_text("x")
    else:
        folder.mkdir()
        (folder / "precious").write_text("x")
        if content is not None:
            (folder / "state.json").write_text(content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="move it away"):
        start(model, selection, target)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_it_leads_nowhere(model: Path, choose: Chooser, tmp_path: Path) -> None:
    """Else what is not of the rewrite would be removed where the link leads."""
    selection, target, mine = choose(model), tmp_path / "out", tmp_path / "mine"
    folder = interrupted(model, selection, target)
    shutil.rmtree(folder / "checkpoint")
    mine.mkdir()
    (mine / "precious").write_text("x")
    (folder / "checkpoint").symlink_to(mine)
    with pytest.raises(OutputError, match="move it away"):
        start(model, selection, target)
    assert (mine / "precious").read_text() == "x"


def test_of_two_runs_at_once_the_second_is_refused(
    model: Path, choose: Chooser, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    asked = 0

    def at_the_same_time(*_: Any) -> None:
        nonlocal asked
        for selection in (choose(model), choose(model, seed=1)):
            with pytest.raises(OutputError, match=rf"another run \(process {os.getpid()} on"):
                start(model, selection, target)
            asked += 1

    start(model, choose(model), target, check=at_the_same_time)
    assert asked == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_system_without_locks_is_used_all_the_same(
    model: Path, choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", without)
    start(model, choose(model), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_verification_refuses_is_not_gone_on_with(
    model: Path, choose: Chooser, tmp_path: Path
) -> None:
    def check(*_: Any) -> None:
        raise VerificationError("no")

    with pytest.raises(VerificationError, match="no$"):
        start(model, choose(model), tmp_path / "a" / "out", check=check)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, CheckpointError, OSError])
def test_a_check_that_was_cut_short_is_made_again(
    model: Path, choose: Chooser, tmp_path: Path, error: type[BaseException]
) -> None:
    def check(*_: Any) -> None:
        raise error("no")

    with pytest.raises(error):
        start(model, choose(model), tmp_path / "out", check=check)
    progress = Recorder()
    start(model, choose(model), tmp_path / "out", progress=progress)
    assert progress.tasks[-1] == ("writing", 0, "bytes")


def test_a_source_that_changes_meanwhile_is_noticed(choose: Chooser, tmp_path: Path) -> None:
    built = build("mixtral", tmp_path / "m")
    selection = choose(built)
    last = sorted(built.glob("*.safetensors"))[-1]
    content = last.read_bytes()
    actions = {
        "changed": lambda: last.write_bytes(bytes(reversed(content))),
        "changed from": lambda: os.truncate(last, len(content) - 8),
    }
    for message, action in actions.items():
        last.write_bytes(content)

        class Sabotage(Recorder):
            done_once = False

            def advance(self, amount: int = 1, action: Callable[[], object] = action) -> None:
                if not self.done_once:
                    self.done_once = True
                    action()

        with pytest.raises(CheckpointError, match=message):
            start(built, selection, tmp_path / "out", progress=Sabotage())
        assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_a_source_that_vanishes_may_come_back(choose: Chooser, tmp_path: Path) -> None:
    built = build("mixtral", tmp_path / "m")
    selection, target = choose(built), tmp_path / "out"
    last = sorted(built.glob("*.safetensors"))[-1]

    class Sabotage(Recorder):
        def advance(self, amount: int = 1) -> None:
            for folder in leftovers(target):
                if len(finished_in(folder)) >= 2 and last.exists():
                    last.rename(tmp_path / "away")

    # "There is no file", or "cannot be read" where it goes between the look and the opening.
    with pytest.raises(CheckpointError, match=f"{last.name}.*the same command goes on"):
        start(built, selection, target, progress=Sabotage())
    (tmp_path / "away").rename(last)
    start(built, selection, target)
    start(built, selection, tmp_path / "fresh")
    assert contents(target) == contents(tmp_path / "fresh")


def test_the_room_that_finished_files_take_is_not_asked_for_again(
    model: Path, choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection, target = choose(model), tmp_path / "out"
    folder = interrupted(model, selection, target)
    done = sum(each["size"] for each in finished_in(folder).values())
    fresh = start(model, selection, tmp_path / "fresh")
    whole = sum(file.stat().st_size for file in fresh.path.iterdir())
    free = whole - done + 16 * 1024 * 1024
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="needs"):
        start(model, choose(model, seed=1), target)
    start(model, selection, target)


KILLED = """
import os, signal, sys
from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite

left = int(sys.argv[4])
steps = 0

def counted(function):
    def call(*arguments, **names):
        global steps
        steps += 1
        if steps == left:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **names)
    return call

for name in ("write", "pwrite", "preadv", "fsync", "open", "mkdir", "rename", "replace", "unlink",
             "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
rewrite(sys.argv[1], Selection.load(sys.argv[2]), sys.argv[3], max_shard_size=30000)
print(steps)
"""


def killed(
    model: Path, selection: Path, target: Path, step: int
) -> subprocess.CompletedProcess[str]:
    """Run a rewrite that kills itself at its n-th step of reading or writing; 0 = it does not."""
    arguments = [sys.executable, "-c", KILLED, str(model), str(selection), str(target), str(step)]
    return subprocess.run(arguments, check=False, timeout=120, capture_output=True, text=True)


def kill_at(points: Callable[[int], list[int]], model: Path, chosen: Selection, tmp: Path) -> None:
    selection, target = tmp / "selection.json", tmp / "out"
    chosen.save(selection)
    steps = int(killed(model, selection, tmp / "whole", 0).stdout)
    whole = contents(tmp / "whole")
    completed = 0
    for point in points(steps):
        # A run that goes on with what the last one left has fewer steps, and may come through.
        done = killed(model, selection, target, point)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        assert done.returncode or target.exists()
        if target.exists():
            assert contents(target) == whole
            shutil.rmtree(target)
            completed += 1
    start(model, chosen, target)
    assert contents(target) == whole
    assert sorted(path.name for path in tmp.iterdir()) == ["out", "selection.json", "whole"]


def test_a_killed_rewrite_leaves_nothing_or_all_and_goes_on(
    model: Path, choose: Chooser, tmp_path: Path
) -> None:
    kill_at(lambda steps: [steps // 3, steps // 2, steps], model, choose(model), tmp_path)


@pytest.mark.slow
def test_killed_at_50_random_moments(model: Path, choose: Chooser, tmp_path: Path) -> None:
    rng = random.Random(0)
    kill_at(
        lambda steps: [rng.randint(1, steps) for _ in range(50)], model, choose(model), tmp_path
    )
