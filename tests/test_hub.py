"""A model that is not on this machine: what is fetched of it, and what is not."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import easyep
from easyep.resources import demo_model
from tests.fake_hub import FakeHub

ASK = """
import json, sys
import easyep
from easyep import models, planning
from easyep.errors import EasyEPError
try:
    if sys.argv[1] == "inspect":
        found = easyep.inspect("org/model").to_json()
    elif sys.argv[1] == "plan":
        plan = planning.plan("org/model", domain=["math"], n_demos=2, runner="stream")
        found = {"fetch_bytes": plan.fetch_bytes, "keep": plan.keep, "demos": plan.demos}
    else:
        found = {"path": str(models.resolve("org/model").path)}
except EasyEPError as error:
    found = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps(found))
"""


@pytest.fixture
def served() -> Iterator[FakeHub]:
    made = FakeHub(demo_model())
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.over.set()
    made.shutdown()
    thread.join()
    made.server_close()


def ask(what: str, hub: FakeHub, cache: Path) -> dict[str, object]:
    """In a process of its own: the hub's address is read when the library is imported."""
    surroundings = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", ASK, what],
        env={**os.environ, **surroundings, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def weights_sent(hub: FakeHub) -> int:
    return sum(sent for name, sent in hub.sent.items() if name.endswith(".safetensors"))


def test_looking_fetches_no_weights(served: FakeHub, tmp_path: Path) -> None:
    found = ask("inspect", served, tmp_path)
    assert found == json.loads(json.dumps(easyep.inspect("demo").to_json()))
    assert weights_sent(served) <= 3 * (1 << 17)  # one piece of each file
    assert not [*tmp_path.rglob("*.safetensors")]


@pytest.mark.slow
def test_neither_does_a_plan(served: FakeHub, tmp_path: Path) -> None:
    found = ask("plan", served, tmp_path)
    demo = easyep.inspect("demo")
    assert found["fetch_bytes"] == demo.bytes
    assert found["keep"] == demo.experts // 2
    assert weights_sent(served) <= 3 * (1 << 17)


@pytest.mark.slow
def test_what_is_run_is_fetched_whole(served: FakeHub, tmp_path: Path) -> None:
    path = Path(str(ask("resolve", served, tmp_path)["path"]))
    for file in demo_model().iterdir():
        assert (path / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("what", "name", "size", "message"),
    [
        ("resolve", "more.safetensors", 10**18, "OutputError: org/model takes 1000000000.0 GB"),
        ("inspect", "../evil.json", 5, "ModelNotFoundError: .*names the file '../evil.json'"),
        ("inspect", "config.json", "x", "ModelNotFoundError"),
    ],
)
@pytest.mark.slow
def test_a_hub_that_lies(
    served: FakeHub, tmp_path: Path, what: str, name: str, size: object, message: str
) -> None:
    served.more = [{"rfilename": name, "size": size}]
    told = str(ask(what, served, tmp_path / "home")["error"])
    assert re.match(message, told)
    assert not (tmp_path / "evil.json").exists()


@pytest.mark.parametrize("silent", ["/api/models/org/model", ".safetensors"])
def test_a_hub_that_falls_silent(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    served.silent = silent
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setenv(name, "1")
    begin = time.monotonic()
    assert "ReadTimeout" in str(ask("inspect", served, tmp_path)["error"])
    assert time.monotonic() - begin < 50
