import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint import proofreading
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.side_files import side_files
from easyep.checkpoint.verification import verify
from easyep.errors import CheckpointError, ModelNotFoundError
from tests.checkpoint.damage import Pruned
from tests.checkpoint.raw_files import deepseek_fp8, gpt_oss_mxfp4

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]


@pytest.mark.parametrize("family", ["deepseek_v3", "gpt_oss", "mixtral"])
def test_what_the_rewriter_writes_is_right(
    source: Sources, choose: Chooser, tmp_path: Path, family: str
) -> None:
    path = rewrite(
        source(family),
        choose(source(family)),
        tmp_path / "out",
        max_shard_size=40_000,
        extra_files={"README.md": b"card"},
    ).path
    (path / "README.md").write_text("edited before it is published")
    for result in (verify(path), verify(path, source(family))):
        assert result.ok, result.problems
        assert result.problems == []
    assert {check.name for check in result.checks} == {
        *("manifest", "files", "index", "layout", "selection", "surplus files", "source"),
        *("selection of the source", "configuration", "small files", "metadata"),
        *("tensor names", "tensor formats", "checksums", "tensor bytes"),
    }
    assert json.loads(json.dumps(result.to_json()))["ok"] is True


@pytest.mark.parametrize("mtp", ["score", "follow", "drop"])
@pytest.mark.parametrize("groups", ["balanced", "flatten"])
def test_mtp_and_group_modes_are_right(
    source: Sources, choose: Chooser, tmp_path: Path, mtp: str, groups: str
) -> None:
    selection = choose(source("deepseek_v3"), 8, groups, mtp=mtp == "score")
    path = rewrite(source("deepseek_v3"), selection, tmp_path / "out", mtp=mtp).path
    result = verify(path, source("deepseek_v3"))
    assert result.ok, result.problems


@pytest.mark.parametrize("make", [deepseek_fp8, gpt_oss_mxfp4])
def test_quantised_checkpoints_are_right(
    choose: Chooser, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "source")
    out = rewrite(path, choose(path), tmp_path / "out").path
    result = verify(out, path)
    assert result.ok, result.problems


@pytest.fixture(scope="module")
def whole(source: Sources, choose: Chooser, tmp_path_factory: pytest.TempPathFactory) -> Pruned:
    return Pruned.make(source("deepseek_v3"), choose, tmp_path_factory.mktemp("whole"))


@pytest.fixture
def pruned(whole: Pruned, tmp_path: Path) -> Pruned:
    return whole.copy(tmp_path / "out")


def test_a_file_without_a_checksum_is_no_proof(pruned: Pruned) -> None:
    pruned.edit("config.json", lambda config: config.update(rope_theta=1))
    pruned.edit("easyep.json", lambda manifest: manifest["checksums"].pop("config.json"))
    (problem,) = pruned.verify(with_source=False).problems
    assert "config.json is not in the manifest" in problem


def test_every_file_must_be_in_the_manifest_but_hidden_ones(pruned: Pruned, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in (".gitattributes", ".git/HEAD", ".cache/huggingface/x.py", "README.md"):
        (pruned.path / name).parent.mkdir(exist_ok=True, parents=True)
        (pruned.path / name).write_text("")
    assert pruned.verify().ok
    surplus = ("modeling_evil.py", "sub/README.md", "sub/easyep.json", "model.gguf", "linked")
    for name in surplus[:-1]:
        (pruned.path / name).parent.mkdir(exist_ok=True)
        (pruned.path / name).write_text("")
    (pruned.path / "linked").symlink_to(tmp_path / "elsewhere")
    for result in (pruned.verify(), pruned.verify(with_source=False)):
        (problem,) = result.problems
        assert all(f"{name} is not in the manifest" in problem for name in surplus)


def test_files_that_cannot_be_read_are_problems(
    pruned: Pruned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (pruned.path / "LICENSE").unlink()
    (tmp_path / "LICENSE").touch()
    (pruned.path / "LICENSE").symlink_to(tmp_path / "LICENSE")
    (problem,) = pruned.verify(with_source=False).problems
    assert problem.startswith("checksums: LICENSE is a link to")

    def fail(*_: object, **__: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(proofreading, "open", fail, raising=False)
    (problem,) = pruned.verify(with_source=False).problems
    assert problem.endswith("cannot be read: Input/output error; and more")


def test_a_source_that_cannot_be_read_is_an_error(
    pruned: Pruned, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(CheckpointError, match=r"original/model.* cannot be read: Input/output"):
        pruned.verify()


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_every_byte_is_read_once_by_any_number_of_threads(
    pruned: Pruned, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofreading, "BUFFER_BYTES", 1000)
    pruned.flip("model.layers.1.mlp.experts.2.up_proj.weight", 1501)
    pruned.flip("lm_head.weight", 3)
    counted = Counted()
    result = verify(pruned.path, pruned.source, jobs=jobs, progress=counted)
    one, two = [check for check in result.checks if not check.ok]
    assert one.name == "checksums"
    assert (two.name, two.detail.count("differs")) == ("tensor bytes", 2)
    files = [f for f in pruned.path.iterdir() if f.name not in ("easyep.json", "README.md")]
    assert counted.done == counted.total == sum(file.stat().st_size for file in files)


def test_an_interruption_stops_all_threads(pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofreading, "BUFFER_BYTES", 100)
    counted = Counted()
    advance = counted.advance

    def interrupted(amount: int = 1) -> None:
        advance(amount)
        if counted.done > 5000:
            raise KeyboardInterrupt

    monkeypatch.setattr(counted, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        verify(pruned.path, pruned.source, jobs=3, progress=counted)
    assert counted.done < counted.total / 4
    assert counted.total > 100_000


class Counted:
    """Progress that counts, for several threads."""

    def __init__(self) -> None:
        self.total, self.done, self._lock = 0, 0, Lock()

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator["Counted"]:
        self.total = total
        yield self

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self.done += amount


def test_no_torch_is_needed(pruned: Pruned) -> None:
    program = (
        "import sys\n"
        "from easyep.checkpoint.verification import verify\n"
        "assert verify(*sys.argv[1:]).ok\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", program, str(pruned.path), str(pruned.source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_manifest(pruned: Pruned) -> None:
    (pruned.path / "easyep.json").unlink()
    (problem,) = pruned.verify().problems
    assert "easyep.json cannot be used: " in problem
    assert "nothing can be verified without it" in problem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema=2), "schema is 2"),
        (lambda m: m.pop("selection"), "'checksums' and 'selection' must be objects"),
        (lambda m: m["selection"].update(keep=3), "keeps 8 experts, not 3"),
        (lambda m: m.update(mtp="x"), "'mtp' must be one of score, follow, drop"),
        (lambda m: m.update(source={}), "'model' must be an object"),
        (lambda m: m["checksums"].update({"../x": "0"}), "'../x' is not the name of a file"),
        (lambda m: m["checksums"].update({"\ud800": "0"}), "\\ud800 cannot be read"),
    ],
)
def test_broken_manifests(
    pruned: Pruned, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    pruned.edit("easyep.json", change)
    assert any(message in problem for problem in pruned.verify().problems)


def test_what_a_file_says_at_length_is_cut(pruned: Pruned) -> None:
    pruned.edit("config.json", lambda config: config.update({"\ud800": "x" * 10**6}))
    (problem,) = [each for each in pruned.verify().problems if each.startswith("configuration")]
    assert problem.startswith("configuration: \\ud800 is 'xxx")
    assert "[...]" in problem
    assert len(problem) < 5000


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    pruned: Pruned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path).name in ("code", "lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    (tmp_path / "m" / "lost+found").mkdir(parents=True)
    assert not side_files(tmp_path / "m")
    (tmp_path / "m" / "code").mkdir()
    with pytest.raises(CheckpointError, match="code cannot be read: Permission denied"):
        side_files(tmp_path / "m")
    (pruned.path / "code").mkdir()
    (pruned.path / "lost+found").mkdir()
    assert [each for each in pruned.verify().problems if "Permission denied" in each] == [
        f"surplus files: {pruned.path / 'code'} cannot be read: Permission denied"
    ]


def test_the_wrong_source(pruned: Pruned, source: Sources) -> None:
    result = verify(pruned.path, source("glm4_moe"))
    assert any("is not the checkpoint that easyep.json names" in each for each in result.problems)


def test_directories_that_are_none_are_errors(pruned: Pruned, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        verify(tmp_path / "nothing")
    with pytest.raises(ModelNotFoundError):
        verify(pruned.path, tmp_path / "nothing")


def test_a_damaged_source_is_an_error(pruned: Pruned, tmp_path: Path) -> None:
    shutil.copytree(pruned.source, tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text("{")
    with pytest.raises(CheckpointError):
        verify(pruned.path, tmp_path / "damaged")
