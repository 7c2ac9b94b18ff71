"""Servers that people run, started on the demo model: llama.cpp's and transformers' own.

Each needs packages that easyep does not: `llama-cpp-python[server]` and, to convert the model,
LLAMA_CPP_SOURCE (see `tests/engines`); `transformers[serving]`.
"""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from easyep.resources import demo_model
from tests.engines import in_llama_cpp

KINDS = ("llama.cpp", "transformers")
_START = 120.0  # seconds until a server must answer


def missing(kind: str) -> str | None:
    """What is not here to run a kind of server, or None."""
    if kind == "llama.cpp" and in_llama_cpp.missing():
        return in_llama_cpp.missing()
    lacking = [name for name in ("fastapi", "uvicorn", "pydantic") if find_spec(name) is None]
    return f"the packages {', '.join(lacking)} are not installed" if lacking else None


class RealServer:
    """A server process on a port of its own, which it keeps when it is started again."""

    def __init__(self, kind: str, model: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._words, self._log = _command(kind, model, self.port), log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._words], stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + _START
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/v1/models", timeout=2):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"the server did not start:\n{self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def prepare(kind: str, folder: Path) -> RealServer:
    """A server of the demo model that is not started yet."""
    model = Path(demo_model())
    if kind == "llama.cpp":
        model = in_llama_cpp.convert(model, folder / "demo.gguf")
    return RealServer(kind, model, folder / "log")


def _command(kind: str, model: Path, port: int) -> Sequence[str]:
    if kind == "llama.cpp":
        return [
            "-m", "llama_cpp.server", "--model", str(model), "--port", str(port),
            "--n_threads", "1", "--n_ctx", "256",
        ]  # fmt: skip
    start = "from transformers.cli.transformers import main; main()"
    return [
        "-c", start, "serve", str(model), "--port", str(port),
        "--device", "cpu", "--dtype", "float32",
    ]  # fmt: skip
