"""The folder beside a target that a rewrite fills, and that the same rewrite finds again.

``.NAME.partial-<fingerprint>`` holds

* ``checkpoint``: the files to be; it is renamed to NAME when all of them are there;
* ``state.json``: what is being written, and what is known of each finished weight file;
* ``lock``: locked (flock) while a run works here, which tells a live run from a killed one.

The fingerprint is a hash of all that the weight files depend on. So a rewrite never meets the
folder of another one, and none is removed by a run that it does not belong to.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from easyep import strict_json
from easyep.atomic import appear, make_parents, remove_empty, write_bytes, writing
from easyep.errors import EasyEPError, OutputError, first_line

SCHEMA = 2
STATE, LOCK, FILES = "state.json", "lock", "checkpoint"


@dataclass(frozen=True)
class Finished:
    """A weight file that was on disk before it was noted.

    Attributes:
        size: in bytes.
        sha256: of its content.
        plan: a digest of the byte ranges that it was made from (`resuming.digest`).
    """

    size: int
    sha256: str
    plan: str


@dataclass
class WorkFolder:
    """A work folder that this run has locked.

    Attributes:
        path: the folder.
        purpose: what is being written, in words and hashes.
        finished: the weight files that are finished, by name.
    """

    path: Path
    purpose: Mapping[str, str]
    finished: dict[str, Finished] = field(default_factory=dict)
    _noting: Lock = field(default_factory=Lock, repr=False)

    @property
    def files(self) -> Path:
        """The folder that becomes the target."""
        return self.path / FILES

    def note(self, name: str, file: Finished) -> None:
        """Remember that the weight file `name` is on disk; several threads may call this.

        Raises:
            OutputError: it cannot be written down.
        """
        with self._noting:
            self.finished[name] = file
            self.save()

    def keep_only(self, names: set[str]) -> None:
        """Forget and remove all files but the finished ones of these `names`."""
        with writing(self.files):
            for name in set(self.finished) - names:
                del self.finished[name]
            self.save()
            for each in self.files.iterdir():
                if each.name not in names:
                    shutil.rmtree(each) if _is_folder(each) else each.unlink()

    def save(self) -> None:
        """Write `state.json`."""
        files = {name: vars(each) for name, each in sorted(self.finished.items())}
        value = {"schema": SCHEMA, "purpose": dict(self.purpose), "finished": files}
        write_bytes(self.path / STATE, (json.dumps(value, indent=2) + "\n").encode())


@contextmanager
def work_folder(target: Path, purpose: Mapping[str, str]) -> Iterator[WorkFolder]:
    """The work folder for `purpose`, as an earlier run left it or new; renamed to `target` at last.

    When the block raises, the folder stays if a weight file in it is finished, and the error says
    so; else nothing is left, parent folders made for it included. A caller that has found the
    finished files to be worthless calls `keep_only(set())` first.

    Args:
        target: the directory to be, absolute, checked with `target.check_target`.
        purpose: all that the weight files depend on.

    Raises:
        OutputError: another run is writing to `target`, something that is no such folder has its
            name, or it cannot be made or renamed.
    """
    work: WorkFolder | None = None
    made: list[Path] = []
    with ExitStack() as locks:
        try:
            with writing(target):
                make_parents(target, made)
                work = _entered(target, purpose, locks)
                # Locked first and looked second: of two runs at once at most one goes on.
                refuse_other_runs(target, own=work.path)
                work.save()
                work.files.mkdir(exist_ok=True)
            yield work
            with writing(target):
                appear(work.files, target)
        except BaseException as error:
            kept = work is not None and bool(work.finished)
            if work is not None and not kept:
                shutil.rmtree(work.path, ignore_errors=True)
            remove_empty(made)
            if work is not None and kept:
                _tell(error, work)
            raise
        shutil.rmtree(work.path, ignore_errors=True)


def leftovers(target: Path) -> list[Path]:
    """The work folders beside `target`, of runs that go on or were cut short."""
    pattern = re.compile(re.escape(f".{target.name}.partial-") + "[0-9a-f]{12}")
    try:
        beside = [path for path in target.parent.iterdir() if pattern.fullmatch(path.name)]
        return sorted(path for path in beside if _is_folder(path))
    except OSError:
        return []


def fingerprint(purpose: Mapping[str, str]) -> str:
    """The hash of a purpose that ends the name of its folder."""
    text = json.dumps([SCHEMA, dict(purpose)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def refuse_other_runs(target: Path, own: Path | None = None) -> None:
    """Raises OutputError where a run other than that in the folder `own` is writing to `target`."""
    for folder in leftovers(target):
        if folder != own:
            with ExitStack() as briefly, suppress(FileNotFoundError):
                _lock(folder, target, briefly, os.O_RDWR)


def _entered(target: Path, purpose: Mapping[str, str], locks: ExitStack) -> WorkFolder:
    """The folder for `purpose`, locked until `locks` are closed."""
    path = target.parent / f".{target.name}.partial-{fingerprint(purpose)}"
    for each in (path, path / FILES):  # a link could lead to what is somebody's own
        if os.path.lexists(each) and not _is_folder(each):
            raise OutputError(
                f"{each} is no folder of easyep; move it away or choose another output"
            )
    if not _is_fresh(path):
        _finished(path, purpose)  # before anything of ours is put there
    path.mkdir(mode=0o700, exist_ok=True)
    try:
        descriptor = _lock(path, target, locks, os.O_RDWR | os.O_CREAT)
    except OSError:
        remove_empty([path])
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
    return WorkFolder(path, purpose, {} if _is_fresh(path) else _finished(path, purpose))


def _is_fresh(path: Path) -> bool:
    """Whether nothing was done in a folder yet, or it is not there."""
    own = (LOCK, f".{STATE}.")  # a run that was killed at once leaves no more
    return not path.exists() or all(each.name.startswith(own) for each in path.iterdir())


def _lock(folder: Path, target: Path, locks: ExitStack, flags: int) -> int:
    """Lock a folder until `locks` are closed; OutputError where another run holds the lock."""
    descriptor = os.open(folder / LOCK, flags | os.O_NOFOLLOW, 0o600)
    locks.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode(errors="replace").strip()
        raise OutputError(
            f"another run ({holder}) is writing to {target}; wait for it, or choose another name"
        ) from None
    except OSError:
        pass  # a file system without locks: there two runs at once cannot be told
    if not os.fstat(descriptor).st_nlink:  # it went with its folder before it was locked here
        raise OutputError(f"another run that was writing to {target} has just ended; try again")
    return descriptor


def _finished(path: Path, purpose: Mapping[str, str]) -> dict[str, Finished]:
    """What the state of an earlier run says; OutputError where it is no such state."""
    try:
        if not stat.S_ISREG((path / STATE).lstat().st_mode):  # a pipe would be waited for
            raise ValueError("it is no file")
        value = strict_json.parse((path / STATE).read_text(encoding="utf-8"))
        if (value["schema"], value["purpose"]) != (SCHEMA, dict(purpose)):
            raise ValueError("it is of something else")
        return {name: Finished(**each) for name, each in value["finished"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{path} has the name of a rewrite that was cut short, but its {STATE} is not of one "
            f"({first_line(error)}); move it away, or choose another output"
        ) from None


def _tell(error: BaseException, work: WorkFolder) -> None:
    """Raise `error` anew with what was kept, where it carries a message for the user."""
    hint = (
        f"{len(work.finished)} finished weight files are kept in {work.path}: the same command "
        "goes on from there"
    )
    if isinstance(error, EasyEPError):
        raise type(error)(f"{error}; {hint}") from error
    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt("; ".join([*map(str, error.args), hint])) from None


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
