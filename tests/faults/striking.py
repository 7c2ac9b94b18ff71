"""One fault to one command, and what must hold after it."""

import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from easyep.resources import demo_model
from tests.faults.commands import Command
from tests.faults.disks import small_disk
from tests.faults.processes import Done, Limits, Running, run, run_struck

MODELS = ("demo", "../inputs/pruned")  # that commands name
MEMORY = 32 * 2**20
SPARE = 24 * 2**20  # what a rewrite wants to be free, and some more


@dataclass(frozen=True)
class Undisturbed:
    """A command that nothing befell.

    Attributes:
        files: name -> content of all that it left.
        seconds: how long it took.
    """

    files: dict[str, bytes]
    seconds: float


def undisturbed(command: Command, folder: Path) -> Undisturbed:
    """Run a command in a new folder."""
    folder.mkdir()
    begin = time.monotonic()
    done = run(command.words, folder, Limits())
    assert done.code == 0, done.said
    return Undisturbed(files(folder), time.monotonic() - begin)


def files(folder: Path) -> dict[str, bytes]:
    """Name -> content of all visible files but logs, which a run that goes on appends to."""
    found = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {n: p.read_bytes() for n, p in found.items() if _is_result(n)}


def _is_result(name: str) -> bool:
    hidden = any(part.startswith(".") for part in Path(name).parts)
    return not hidden and not name.endswith((".answers", ".db"))


def fault(
    kind: str, command: Command, folder: Path, usual: Undisturbed, draw: random.Random
) -> bool:
    """Let a fault of a `kind` befall a command in a new folder, and check what must hold.

    Returns:
        Whether it hit: the command did not come through.

    Raises:
        AssertionError: something was lost or half, unclear, or not made good by the same command.
    """
    folder.mkdir()
    hit = FAULTS[kind](command, folder, usual, draw)
    assert hit.clear, f"{kind}: exit code {hit.code}: {hit.said}"
    _nothing_half(command, files(folder), usual)
    if kind not in ("kill", "memory", "damaged rest"):  # a process that is killed cannot tidy up
        parts = [path for path in folder.glob(".*") if ".part" not in path.name]
        assert not parts, f"{kind}: left {parts}"
    if not (folder / "out").exists():
        again = run(command.words, folder, Limits())
        assert again.code == 0, f"after {kind}: {again.said}"
    found = files(folder)
    if command.timed:
        assert found.keys() == usual.files.keys()
    else:
        names = found.keys() | usual.files.keys()
        other = sorted(n for n in names if found.get(n) != usual.files.get(n))
        assert not other, f"after {kind}: other bytes of {other}"
    shutil.rmtree(folder)
    return hit.code != 0


def _nothing_half(command: Command, found: dict[str, bytes], usual: Undisturbed) -> None:
    for name, content in found.items():
        assert name in usual.files, f"{name} is no result"
        if not command.timed:
            assert content == usual.files[name], f"{name} is half"
        elif name.endswith(".json"):
            json.loads(content)


def _signal(number: int) -> "_Fault":
    def strike(command: Command, folder: Path, usual: Undisturbed, draw: random.Random) -> Done:
        # Not at once: until a command listens, a signal ends Python itself, in Python's words.
        after = draw.uniform(0.05, 1) * usual.seconds
        done = run_struck(command.words, folder, number, after)
        expected = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
        assert done.code in (0, expected), f"exit code {done.code}: {done.said}"
        return done

    return strike


def _full_disk(command: Command, folder: Path, usual: Undisturbed, draw: random.Random) -> Done:
    most = max(map(len, usual.files.values()), default=1)
    return run(command.words, folder, Limits(file_bytes=draw.randrange(most)))


def _no_permission(command: Command, folder: Path, usual: Undisturbed, draw: random.Random) -> Done:
    folder.chmod(0o500)
    done = run(command.words, folder, Limits(obeys_permissions=True))
    folder.chmod(0o700)
    assert not usual.files or done.code == 1, done.said
    return done


def _memory(command: Command, folder: Path, usual: Undisturbed, draw: random.Random) -> Done:
    done = run(command.words, folder, Limits(memory_bytes=draw.randrange(MEMORY)))
    assert done.code in (0, 1, -6, -11), f"exit code {done.code}: {done.said}"
    return done


def _damaged_work(command: Command, folder: Path, usual: Undisturbed, draw: random.Random) -> Done:
    """All results but those of the work directory are gone, and one file there is damaged."""
    done = run(command.words, folder, Limits())
    _empty(folder, keep_rest=True)
    kept = [path for path in sorted((folder / "work").rglob("*")) if path.is_file()]
    if not kept:
        return done
    _damage(draw.choice(kept), draw)
    done = run(command.words, folder, Limits())
    if done.code:
        shutil.rmtree(folder / "work")  # as the message says, or nothing more is lost
    return done


def _damaged_rest(command: Command, folder: Path, usual: Undisturbed, draw: random.Random) -> Done:
    """Killed, and then one file that it left to go on from is damaged."""
    after = draw.uniform(0.05, 1) * usual.seconds
    struck = run_struck(command.words, folder, signal.SIGKILL, after)
    if files(folder).keys() >= usual.files.keys():
        return struck  # too late: all is there, and nothing to go on with
    kept = [p for p in sorted(folder.rglob("*")) if p.is_file() and _is_rest(p, folder)]
    if kept:
        _damage(draw.choice(kept), draw)
    done = run(command.words, folder, Limits())
    if done.code:
        for path in folder.iterdir():
            if _is_rest(path, folder):  # as the message says
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return done


def _is_rest(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return parts[0] == "work" or any(part.startswith(".") for part in parts)


def _two_at_once(command: Command, folder: Path, usual: Undisturbed, draw: random.Random) -> Done:
    """A second command like the first one, while that runs; at most one of them may give up."""
    first = Running(command.words, folder, Limits())
    time.sleep(draw.uniform(0, 0.5) * usual.seconds)
    try:
        second = run(command.words, folder, Limits())
        ended = [second, first.wait()]
    finally:
        first.strike(signal.SIGKILL)
    assert all(done.clear for done in ended), [done.said for done in ended]
    assert min(done.code for done in ended) == 0, [done.said for done in ended]
    return max(ended, key=lambda done: done.code)


def _filling_disk(command: Command, folder: Path, usual: Undisturbed, draw: random.Random) -> Done:
    """Something else takes all that is left of the disk, while the command runs."""
    total = sum(map(len, usual.files.values()))
    with small_disk(folder, 2 * total + SPARE):
        running = Running(command.words, folder, Limits())
        time.sleep(draw.uniform(0.05, 1) * usual.seconds)
        other = folder / ".other"
        with suppress(OSError), open(other, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        done = running.wait()
        other.unlink()
        shutil.copytree(folder, folder.with_name(f"{folder.name} saved"), symlinks=True)
    folder.rmdir()
    folder.with_name(f"{folder.name} saved").rename(folder)
    return done


def _changed_source(
    command: Command, folder: Path, usual: Undisturbed, draw: random.Random
) -> Done:
    """Killed, and then the model is another one, under the same name."""
    model = folder.with_name(f"{folder.name} model")
    words = _of_a_copy(command.words, folder, model)
    if words is None:
        return run(command.words, folder, Limits())
    run_struck(words, folder, signal.SIGKILL, draw.uniform(0.05, 1) * usual.seconds)
    _change(model, draw)
    _empty(folder, keep_rest=True)
    done = run(words, folder, Limits())
    if done.code == 0:
        found = files(folder)
        _empty(folder)
        assert run(words, folder, Limits()).code == 0
        expected = files(folder)
        # What the first model left under names of its own stays in the work directory.
        assert expected.keys() <= found.keys(), "less than of the new model alone"
        assert all(name.startswith("work/") for name in found.keys() - expected.keys())
        if not command.timed:
            mixed = [name for name, content in expected.items() if found[name] != content]
            assert not mixed, f"of both models: {mixed}"
    _empty(folder)
    shutil.rmtree(model)
    return done


def _of_a_copy(words: tuple[str, ...], folder: Path, model: Path) -> tuple[str, ...] | None:
    """The command line with the copy `model` of its model, which a recipe may name instead."""
    for at, word in enumerate(words):
        if word in MODELS:
            shutil.copytree(demo_model() if word == "demo" else folder / word, model)
            return (*words[:at], f"../{model.name}", *words[at + 1 :])
        if word.endswith((".yaml", "easyep.json")):
            shutil.copytree(demo_model(), model)
            recipe = model.with_name(f"{model.name} recipe") / Path(word).name
            recipe.parent.mkdir()
            told = (folder / word).read_text(encoding="utf-8")
            renamed = re.sub(r'("model": )"demo"', rf'\1"../{model.name}"', told)
            assert renamed != told, f"{word} names no model"
            recipe.write_text(renamed, encoding="utf-8")
            return (*words[:at], f"../{recipe.parent.name}/{recipe.name}", *words[at + 1 :])
    return None


def _change(model: Path, draw: random.Random) -> None:
    """Make another model of it, as training goes on or an author mends a file."""
    how = draw.choice(["weights", "config.json", "tokenizer.json"])
    if how != "weights":
        (model / how).write_bytes((model / how).read_bytes() + b"\n")
        return
    for path in model.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        begin = 8 + int.from_bytes(content[:8], "little")
        content[begin::2] = bytes(b ^ 1 for b in content[begin::2])  # each weight's last bit
        path.write_bytes(content)


def _empty(folder: Path, keep_rest: bool = False) -> None:
    for path in folder.iterdir():
        if not (keep_rest and _is_rest(path, folder)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _damage(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    how = draw.choice(["shorter", "flip", "empty", "wrong"])
    if how == "shorter":
        os.truncate(path, len(content) // 2)
    elif how == "flip" and content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    else:
        path.write_bytes(b"" if how == "empty" else b'{"schema": 99}')


_Fault = Callable[[Command, Path, Undisturbed, random.Random], Done]

FAULTS: dict[str, _Fault] = {
    "kill": _signal(signal.SIGKILL),
    "interrupt": _signal(signal.SIGINT),
    "terminate": _signal(signal.SIGTERM),
    "full disk": _full_disk,
    "no permission": _no_permission,
    "memory": _memory,
    "damaged work": _damaged_work,
    "damaged rest": _damaged_rest,
    "two at once": _two_at_once,
    "changed source": _changed_source,
    "filling disk": _filling_disk,
}
