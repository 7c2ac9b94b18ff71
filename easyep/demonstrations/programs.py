"""Programs that a response holds, run apart from everything else, with limits.

Each run has a folder of its own that is removed afterwards, an environment without variables of
the user's, limits on processor time, memory and the size of files, and no network where the
kernel lets a user cut it off (Linux user namespaces). That stops mistakes and loops. It is no
wall against a program that wants to do harm: check answers of a model that you do not trust
inside a container.
"""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from easyep.errors import DemosError
from easyep.registry import unknown_name

_OUTPUT = 1 << 20  # bytes of output that are kept


@dataclass(frozen=True)
class Language:
    """How programs of a language are run.

    Attributes:
        file: the name that the source gets.
        build: a command that is run once before, empty where nothing is built.
        run: the command that runs it.
        fences: the names of its code blocks in Markdown.
    """

    file: str
    build: tuple[str, ...]
    run: tuple[str, ...]
    fences: tuple[str, ...]

    @property
    def available(self) -> bool:
        """Whether this machine has what it takes."""
        tools = [command[0] for command in (self.build, self.run) if command]
        return all(tool.startswith("./") or shutil.which(tool) for tool in tools)


LANGUAGES = {
    "python": Language("program.py", (), (sys.executable, "-I", "program.py"), ("python", "py")),
    "javascript": Language("program.js", (), ("node", "program.js"), ("javascript", "js")),
    "bash": Language("program.sh", (), ("bash", "program.sh"), ("bash", "sh", "shell")),
    "c": Language(
        "program.c",
        ("gcc", "-std=c11", "-O1", "-o", "program", "program.c", "-lm"),
        ("./program",),
        ("c",),
    ),
    "c++": Language(
        "program.cpp",
        ("g++", "-std=c++17", "-O1", "-o", "program", "program.cpp"),
        ("./program",),
        ("c++", "cpp"),
    ),
    "rust": Language(
        "program.rs",
        ("rustc", "--edition", "2021", "-o", "program", "program.rs"),
        ("./program",),
        ("rust", "rs"),
    ),
    "sql": Language(
        "program.sql",
        (),
        ("sqlite3", "-batch", ":memory:", ".read program.sql"),
        ("sql",),
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What a program did.

    Attributes:
        code: its exit status; negative for the signal that ended it.
        output: its standard output.
        errors: its standard error, or what its compiler said.
    """

    code: int
    output: str
    errors: str


def code_in(response: str, language: str) -> str:
    """The last code block of a language in a Markdown text; empty where there is none."""
    fences = "|".join(re.escape(fence) for fence in _language(language).fences)
    blocks = re.findall(rf"^```(?:{fences})[ \t]*\n(.*?)^```", response, re.M | re.S | re.I)
    return blocks[-1] if blocks else ""


def run(source: str, language: str = "python", *, stdin: str = "", seconds: float = 20) -> Outcome:
    """Run a program; `seconds` is how long it may take, building not counted.

    Raises:
        DemosError: this machine cannot run the language.
        UnknownNameError: easyep does not know the language.
    """
    known = _language(language)
    if not known.available:
        raise DemosError(f"programs in {language} cannot be run here: no {known.run[0]}")
    with tempfile.TemporaryDirectory(prefix="easyep-") as folder:
        (Path(folder) / known.file).write_text(source, encoding="utf-8")
        if known.build:
            built = execute(known.build, folder, seconds=120)
            if built.code:
                return built
        return execute(known.run, folder, stdin=stdin, seconds=seconds)


def execute(
    command: Sequence[str], folder: str | os.PathLike[str], *, stdin: str = "", seconds: float = 20
) -> Outcome:
    """Run a command in a folder under the limits of this module."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/") if command[0] == "rustc" else str(folder),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    with (
        tempfile.TemporaryFile(dir=folder) as out,
        tempfile.TemporaryFile(dir=folder) as err,
        tempfile.TemporaryFile(dir=folder) as given,
    ):
        given.write(stdin.encode())
        given.seek(0)
        process = subprocess.Popen(
            [*_limits(command[0], seconds), *command],
            cwd=folder, env=environment, stdin=given, stdout=out, stderr=err,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout=seconds)
            late = False
        except subprocess.TimeoutExpired:
            code, late = -signal.SIGKILL, True
        finally:
            # Children too, and those that outlive a program that ended in time.
            _end(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(_OUTPUT).decode(errors="replace"))
    if late:
        texts[1] += f"\nstopped after {seconds:g} s"
    return Outcome(code, *texts)


def _language(name: str) -> Language:
    if name not in LANGUAGES:
        raise unknown_name("language", name, LANGUAGES)
    return LANGUAGES[name]


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _limits(tool: str, seconds: float) -> list[str]:
    """The commands that bound the one that follows."""
    words = list(_without_network())
    if shutil.which("prlimit"):
        words += ["prlimit", f"--cpu={int(seconds) + 1}", "--fsize=67108864", "--core=0"]
        # node reserves address space that it never uses.
        words += ["--as=2147483648"] if tool != "node" else []
    return words


@functools.cache
def _without_network() -> tuple[str, ...]:
    words = ("unshare", "--user", "--map-current-user", "--net")
    if not shutil.which(words[0]):
        return ()
    tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if tried.returncode == 0 else ()
