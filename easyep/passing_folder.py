"""A folder that goes with its process, however that ends."""

import shutil
import subprocess
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from easyep.atomic import writing

# Waits until the process is gone that could write to it. Launchers end what a process has started
# too, before that process itself.
_GUARD = 'trap "" HUP INT TERM; echo deaf; cat >/dev/null; rm -rf -- "$1"'
_ENDING = 10  # seconds


class PassingFolder:
    """A new folder for what is worthless without this process, such as weights on the disk.

    A small process removes it where this one is killed. Where both are, as when a container ends
    or a machine fails, it stays behind.

    Args:
        parent: the folder that it is made in; None = that for temporary files.

    Attributes:
        path: the folder, absolute.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        with writing(parent):
            self.path = Path(tempfile.mkdtemp(prefix="easyep-weights-", dir=parent)).resolve()
        guard: subprocess.Popen[bytes] | None = None
        with suppress(OSError):  # where there is no such shell, it is removed by this process only
            guard = subprocess.Popen(
                ["sh", "-c", _GUARD, "sh", self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert guard.stdout is not None
            with guard.stdout as said:
                said.readline()
        self._remove = weakref.finalize(self, _remove, self.path, guard)

    def remove(self) -> None:
        """Remove it now, and not when nothing refers to it any more."""
        self._remove()


def _remove(path: Path, guard: "subprocess.Popen[bytes] | None") -> None:
    shutil.rmtree(path, ignore_errors=True)
    if guard is not None and guard.stdin is not None:
        guard.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            guard.wait(_ENDING)
