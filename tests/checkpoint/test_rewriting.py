import dataclasses
import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyep.architectures.spec import find_architecture
from easyep.artifacts.selection import Selection
from easyep.checkpoint import planning, rewriting
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.layout import resolve
from easyep.checkpoint.planning import Plan, plan
from easyep.checkpoint.rewriting import Rewritten, begun, rewrite
from easyep.checkpoint.verification import verify
from easyep.errors import CheckpointError, OutputError
from tests.checkpoint.progress import Recorder
from tests.checkpoint.raw_files import deepseek_fp8, gpt_oss_mxfp4, read_all, read_file
from tests.tiny_models import build

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]


def expected_tensors(path: Path, selection: Selection) -> dict[str, Any]:
    """What must come out, by the plainest reading of the names."""
    stacked = ("gate.weight", "bias", "router.weight", "_proj", "_blocks", "_scales")
    expected = {}
    for name, (dtype, shape, data) in read_all(path).items():
        parts = name.split(".")
        layer = int(parts[2]) if name.startswith("model.layers.") else -1
        kept = selection.layers.get(layer, ())
        if ".experts." in name and parts[parts.index("experts") + 1].isdigit():
            at = parts.index("experts") + 1
            if int(parts[at]) in kept:
                parts[at] = str(kept.index(int(parts[at])))
                expected[".".join(parts)] = (dtype, shape, data)
        elif kept and (
            ".mlp.experts." in name
            or (name.endswith(stacked) and any(f".{p}." in name for p in ("gate", "router")))
        ):
            row = len(data) // shape[0]
            rows = b"".join(data[e * row : (e + 1) * row] for e in kept)
            expected[name] = (dtype, (len(kept), *shape[1:]), rows)
        else:
            expected[name] = (dtype, shape, data)
    return expected


@pytest.mark.parametrize("groups", ["balanced", "flatten"])
@pytest.mark.parametrize("family", ["deepseek_v3", "gpt_oss", "mixtral"])
def test_kept_tensors_are_the_sources_bytes_under_new_numbers(
    source: Sources, choose: Chooser, tmp_path: Path, family: str, groups: str
) -> None:
    selection = choose(source(family), groups=groups)
    rewritten = rewrite(source(family), selection, tmp_path / "out", max_shard_size=30_000)
    assert read_all(rewritten.path) == expected_tensors(source(family), selection)
    assert rewritten.tensors == len(read_all(rewritten.path))
    assert rewritten.bytes_after == sum(len(raw[2]) for raw in read_all(rewritten.path).values())


@pytest.mark.parametrize("make", [deepseek_fp8, gpt_oss_mxfp4])
def test_quantised_bytes_are_copied_as_they_are(
    choose: Chooser, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "source")
    selection = choose(path)
    rewritten = rewrite(path, selection, tmp_path / "out")
    assert read_all(rewritten.path) == expected_tensors(path, selection)


def with_changes(work: Plan, change: Callable[[bytes], bytes]) -> Plan:
    """`work` with the values of every router changed."""
    shards = []
    for shard in work.shards:
        tensors = [
            dataclasses.replace(each, change=change) if each.name.endswith("gate.weight") else each
            for each in shard.tensors
        ]
        shards.append(dataclasses.replace(shard, tensors=tuple(tensors)))
    return dataclasses.replace(work, shards=tuple(shards))


def test_values_that_change_are_computed_from_all_their_bytes(
    source: Sources, choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, selection = source("mixtral"), choose(source("mixtral"))

    def changed(*arguments: Any, **names: Any) -> Plan:
        return with_changes(plan(*arguments, **names), lambda data: data[::-1])

    monkeypatch.setattr(rewriting, "plan", changed)
    progress = Recorder()
    rewritten = rewrite(path, selection, tmp_path / "out", max_shard_size=90_000, progress=progress)
    assert progress.done == weight_bytes(rewritten)
    expected = expected_tensors(path, selection)
    for name, (dtype, shape, data) in expected.items():
        if name.endswith("gate.weight"):
            expected[name] = (dtype, shape, data[::-1])
    assert read_all(rewritten.path) == expected
    manifest = json.loads((rewritten.path / "easyep.json").read_text())
    for name in rewritten.shards:
        digest = hashlib.sha256((rewritten.path / name).read_bytes()).hexdigest()
        assert manifest["checksums"][name] == digest


def test_changed_values_of_another_size_are_refused(
    source: Sources, choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*arguments: Any, **names: Any) -> Plan:
        return with_changes(plan(*arguments, **names), lambda data: data[:-1])

    monkeypatch.setattr(rewriting, "plan", changed)
    with pytest.raises(CheckpointError, match=r"layers\.0\..*gate.weight' needs \d+ bytes"):
        rewrite(source("mixtral"), choose(source("mixtral")), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_index_names_what_is_there(source: Sources, choose: Chooser, tmp_path: Path) -> None:
    path = rewrite(source("olmoe"), choose(source("olmoe")), tmp_path / "out").path
    index = json.loads((path / "model.safetensors.index.json").read_text())
    for name, file in index["weight_map"].items():
        assert name in read_file(path / file)
    assert set(index["weight_map"]) == set(read_all(path))
    assert index["metadata"] == {"total_size": sum(len(r[2]) for r in read_all(path).values())}


def test_total_parameters_is_kept_up(source: Sources, choose: Chooser, tmp_path: Path) -> None:
    built = build("mixtral", tmp_path / "m")
    index = json.loads((built / "model.safetensors.index.json").read_text())
    count = sum(len(raw[2]) for raw in read_all(built).values()) // 4
    index["metadata"] |= {"total_parameters": count, "other": "stays"}
    (built / "model.safetensors.index.json").write_text(json.dumps(index))
    path = rewrite(built, choose(built), tmp_path / "out").path
    metadata = json.loads((path / "model.safetensors.index.json").read_text())["metadata"]
    assert metadata["total_parameters"] == metadata["total_size"] // 4
    assert metadata["other"] == "stays"
    # Formats that pack two numbers in one, and an index that says something else.
    for stated, expected in ((2 * count, metadata["total_size"] // 2), ("many", None)):
        index["metadata"]["total_parameters"] = stated
        (built / "model.safetensors.index.json").write_text(json.dumps(index))
        path = rewrite(built, choose(built), tmp_path / f"of {stated}").path
        found = json.loads((path / "model.safetensors.index.json").read_text())["metadata"]
        assert found["total_parameters"] == (expected or metadata["total_parameters"])


def test_a_single_file_stays_one_if_it_fits(choose: Chooser, tmp_path: Path) -> None:
    built = build("mixtral", tmp_path / "m", shard_bytes=None)
    one = rewrite(built, choose(built), tmp_path / "one")
    assert one.shards == ("model.safetensors",)
    assert not (one.path / "model.safetensors.index.json").exists()
    many = rewrite(built, choose(built), tmp_path / "many", max_shard_size=50_000)
    assert len(many.shards) > 1
    assert read_all(one.path) == read_all(many.path)


def test_safetensors_metadata_is_kept(source: Sources, choose: Chooser, tmp_path: Path) -> None:
    from safetensors import safe_open

    rewritten = rewrite(source("mixtral"), choose(source("mixtral")), tmp_path / "out")
    with safe_open(rewritten.path / rewritten.shards[0], "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_small_files_come_along_and_other_weights_do_not(choose: Chooser, tmp_path: Path) -> None:
    built = build("mixtral", tmp_path / "m")
    carried = {
        "tokenizer.json": b"{}",
        "tokenizer.model": b"\0\1",
        "chat_template.jinja": b"{{ x }}",
        "modeling_x.py": b"x = 1\n",
        "additional_chat_templates/a.jinja": b"a",
        "LICENSE": b"l",
        "generation_config.json": (built / "generation_config.json").read_bytes(),
    }
    left = [
        *("pytorch_model.bin", "model.gguf", "consolidated.safetensors", "onnx/model.onnx"),
        *("pytorch_model.bin.index.json", "original/config.json", ".git/HEAD", ".gitattributes"),
        *("README.md", "easyep.json", "__pycache__/x.pyc"),
    ]
    for name in [*carried, *left]:
        (built / name).parent.mkdir(exist_ok=True)
        (built / name).write_bytes(carried.get(name, b"stale"))
    path = rewrite(built, choose(built), tmp_path / "out").path
    files = {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}
    own = {"config.json", "model.safetensors.index.json", "easyep.json"}
    weights = {name for name in files if name.endswith(".safetensors")}
    assert {k: v for k, v in files.items() if k not in own | weights} == carried
    assert files["easyep.json"] != b"stale"


def test_modelopt_settings_are_renumbered(choose: Chooser, tmp_path: Path) -> None:
    name = "model.layers.{}.mlp.experts.{}.up_proj"
    path = deepseek_fp8(tmp_path / "m", ignore=[name.format(1, e) for e in range(8)])
    layers = {name.format(0, e): {"quant_algo": "FP8"} for e in range(8)}
    settings = {"producer": {"name": "modelopt"}, "quantization": {"quantized_layers": layers}}
    (path / "hf_quant_config.json").write_text(json.dumps(settings))
    out = rewrite(path, choose(path), tmp_path / "out").path
    changed = json.loads((out / "hf_quant_config.json").read_text())
    assert list(changed["quantization"]["quantized_layers"]) == [
        name.format(0, e) for e in range(4)
    ]
    config = json.loads((out / "config.json").read_text())
    ignored = config["quantization_config"]["modules_to_not_convert"]
    assert ignored == [name.format(1, e) for e in range(4)]


def test_the_manifest(source: Sources, choose: Chooser, tmp_path: Path) -> None:
    selection = choose(source("deepseek_v3"))
    path = rewrite(
        source("deepseek_v3"),
        selection,
        tmp_path / "out",
        manifest={"recipe": {"keep": 0.5}, "source": selection.model.to_json()},
        extra_files={"README.md": b"# card\n", "selection.json": b"{}"},
    ).path
    manifest = json.loads((path / "easyep.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["recipe"] == {"keep": 0.5}
    assert manifest["mtp"] == "score"
    assert manifest["source"] == selection.model.to_json()
    assert Selection.from_json(manifest["selection"]) == selection
    files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in path.iterdir()}
    assert (path / "README.md").read_bytes() == b"# card\n"
    del files["README.md"], files["easyep.json"]
    assert manifest["checksums"] == files


def test_the_source_is_only_read(source: Sources, choose: Chooser, tmp_path: Path) -> None:
    def state() -> dict[str, Any]:
        return {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in path.iterdir()}

    path = source("mixtral")
    before = state()
    rewrite(path, choose(path), tmp_path / "out")
    assert state() == before


@pytest.mark.parametrize("umask", [0o027, 0])
def test_files_follow_the_umask(
    source: Sources, choose: Chooser, tmp_path: Path, umask: int
) -> None:
    old = os.umask(umask)
    try:
        path = rewrite(source("mixtral"), choose(source("mixtral")), tmp_path / "out").path
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o666 & ~umask}


def open_files() -> set[Path]:
    """What this process has open."""
    return {link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def test_no_file_stays_open(source: Sources, choose: Chooser, tmp_path: Path) -> None:
    path, before = source("mixtral"), open_files()
    rewrite(path, choose(path), tmp_path / "out")
    assert open_files() == before
    with pytest.raises(RuntimeError):
        rewrite(path, choose(path), tmp_path / "other", progress=Recorder(1, RuntimeError("x")))
    assert open_files() == before
    work, other = (plan(path, choose(path, seed=seed)) for seed in (0, 1))
    with begun(work, tmp_path / "early", decided_by="a test") as rewriting:
        for index, kept in work.kept_experts.items():
            rewriting.layer(index, kept)
        rewriting.finish(other)
    assert open_files() == before


def test_of_itself_a_rewrite_does_not_warn(
    source: Sources, choose: Chooser, tmp_path: Path
) -> None:
    path = source("deepseek_v3")
    kept = rewrite(path, choose(path), tmp_path / "kept")
    dropped = rewrite(path, choose(path), tmp_path / "dropped", mtp="drop")
    assert kept.warnings == dropped.warnings == ()
    mtp = resolve(checkpoint := Checkpoint.open(path), find_architecture(checkpoint.config))
    assert (kept.dropped_mtp, dropped.dropped_mtp) == ((), mtp.mtp_layers)
    assert mtp.mtp_layers


def test_a_layout_that_is_known_is_not_found_again(
    source: Sources, choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.open(source("mixtral"))
    layout = resolve(checkpoint, find_architecture(checkpoint.config))
    monkeypatch.setattr(planning, "resolve", None)
    selection = choose(source("mixtral"))
    rewritten = rewrite(checkpoint, selection, tmp_path / "out", layout=layout)
    assert read_all(rewritten.path) == expected_tensors(source("mixtral"), selection)


def weight_bytes(rewritten: Rewritten) -> int:
    return sum((rewritten.path / name).stat().st_size for name in rewritten.shards)


def test_progress_is_told_of_every_byte(source: Sources, choose: Chooser, tmp_path: Path) -> None:
    progress = Recorder()
    rewritten = rewrite(
        source("mixtral"), choose(source("mixtral")), tmp_path / "out", progress=progress
    )
    assert progress.tasks[-1] == ("writing", weight_bytes(rewritten), "bytes")
    assert progress.done == weight_bytes(rewritten)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x"), OSError(32, "pipe")])
def test_nothing_is_left_when_it_fails_before_a_file_is_finished(
    source: Sources, choose: Chooser, tmp_path: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)):  # an OSError of the progress is not one of the target
        rewrite(
            source("mixtral"),
            choose(source("mixtral")),
            tmp_path / "new" / "deep" / "out",
            progress=Recorder(1, error),
        )
    assert list(tmp_path.iterdir()) == []


def no_room(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["pwrite", "fsync", "mkdir", "open"])
def test_a_full_disk_is_one_error_that_names_the_target(
    source: Sources, choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = source("mixtral")
    selection = choose(path)
    target = tmp_path / "new" / "out"
    opened, wrote, calls = os.open, os.pwrite, 0

    def write_little_only(descriptor: int, data: Any, offset: int) -> int:
        return no_room() if len(data) > 1000 else wrote(descriptor, data, offset)

    def open_sources_only(name: Any, flags: int, *more: Any, **names: Any) -> int:
        return no_room() if flags & os.O_CREAT else opened(name, flags, *more, **names)

    def later(*_: object) -> int:
        nonlocal calls
        calls += 1
        return no_room() if calls > 3 else 0

    replacements: dict[str, Any] = {
        "open": open_sources_only,
        "fsync": later,
        "pwrite": write_little_only,
    }
    monkeypatch.setattr(os, call, replacements.get(call, no_room))
    with pytest.raises(OutputError) as error:
        rewrite(path, selection, target)
    monkeypatch.undo()
    assert str(error.value).startswith("cannot write ")
    assert str(target.parent) in str(error.value)
    assert str(error.value).endswith(": No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_the_check_sees_everything_before_the_target_has_its_name(
    source: Sources, choose: Chooser, tmp_path: Path
) -> None:
    path, target = source("deepseek_v3"), tmp_path / "out"
    seen: list[dict[str, bytes]] = []

    def check(folder: Path, copied: Any) -> None:
        assert not copied
        assert not target.exists()
        assert verify(folder, path).ok
        seen.append({f.name: f.read_bytes() for f in folder.iterdir()})

    rewrite(path, choose(path), target, extra_files={"README.md": b"x"}, check=check)
    assert seen == [{f.name: f.read_bytes() for f in target.iterdir()}]
    assert "easyep.json" in seen[0]


def test_a_snapshot_of_the_hugging_face_cache(choose: Chooser, tmp_path: Path) -> None:
    built = build("qwen3_moe", tmp_path / "built")
    (built / "tokenizer.json").write_text("{}")
    repository = tmp_path / "hub" / "models--some--model"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(built.iterdir())):
        shutil.copy(file, repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", str(number)))
    selection = choose(snapshot)
    assert selection == choose(built)
    out = rewrite(snapshot, selection, tmp_path / "out").path
    assert not any(file.is_symlink() for file in out.iterdir())
    assert read_all(out) == expected_tensors(built, selection)
    for original in (snapshot, built):
        result = verify(out, original)
        assert result.ok, result.problems


def test_targets_that_cannot_be(
    choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build("mixtral", tmp_path / "m")
    selection = choose(built)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "alias").symlink_to(built)
    for target, message in [
        ("file", "exists and is not a directory"),
        ("full", "exists and is not empty"),
        ("link", "is a link"),
        ("m", "overlaps the source"),
        ("m/inside", "overlaps the source"),
        ("alias/inside", "overlaps the source"),
        (".", "overlaps the source"),
        ("file/below", "file is not a directory"),
    ]:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(OutputError, match=message):
            rewrite(built, selection, tmp_path / target)
        assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_mount", lambda path: path.name == "empty")
        with pytest.raises(OutputError, match="is a mount point"):
            rewrite(built, selection, tmp_path / "empty")
    assert rewrite(built, selection, tmp_path / "empty").path.is_dir()


def test_a_full_disk_is_noticed_before(
    source: Sources, choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"needs 0.\d MB, but only 0.1 MB are free"):
        rewrite(source("mixtral"), choose(source("mixtral")), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".out.partial-0123456789ab").mkdir()
    (tmp_path / ".output.partial-0123456789ab").mkdir()
    with pytest.raises(OutputError, match=r"\(\S+/\.out\.partial-0123456789ab \(0.0 MB\) is of"):
        rewrite(source("mixtral"), choose(source("mixtral")), tmp_path / "out")
    assert len(list(tmp_path.iterdir())) == 2


def test_extra_files_and_manifest_entries_cannot_replace_what_is_written(
    source: Sources, choose: Chooser, tmp_path: Path
) -> None:
    path, selection = source("mixtral"), choose(source("mixtral"))
    for name, message in [
        ("config.json", "written by the rewriter"),
        ("easyep.json", "written by the rewriter"),
        ("tokenizer.json", "written by the rewriter"),
        ("../x", "plain file name"),
        ("", "plain file name"),
    ]:
        with pytest.raises(OutputError, match=message):
            rewrite(path, selection, tmp_path / "out", extra_files={name: b""})
    with pytest.raises(OutputError, match="entry 'selection' is easyep's own"):
        rewrite(path, selection, tmp_path / "out", manifest={"selection": {}})
    assert list(tmp_path.iterdir()) == []


def test_files_beyond_a_limit_are_one_error(
    source: Sources, choose: Chooser, tmp_path: Path
) -> None:
    program = (
        "import resource, sys\n"
        "from easyep.artifacts.selection import Selection\n"
        "from easyep.checkpoint.rewriting import rewrite\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: rewrite(sys.argv[1], Selection.load(sys.argv[2]), sys.argv[3])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    choose(source("mixtral")).save(tmp_path / "selection.json")
    arguments = [source("mixtral"), tmp_path / "selection.json", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"OutputError cannot write {tmp_path / 'out'}: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == ["selection.json"]


def test_a_large_side_file_is_not_held_in_memory(
    choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build("mixtral", tmp_path / "m")
    selection = choose(built)
    with open(built / "video.mp4", "wb") as file:
        file.truncate(100_000_000)
    tracemalloc.start()
    path = rewrite(built, selection, tmp_path / "out").path
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000
    digest = hashlib.sha256(bytes(100_000_000)).hexdigest()
    assert json.loads((path / "easyep.json").read_text())["checksums"]["video.mp4"] == digest


def test_no_shard_is_opened_once_per_tensor(
    choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = deepseek_fp8(tmp_path / "m", experts=64)
    selection = choose(path)
    opened: Counter[str] = Counter()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(name: Any, *arguments: Any, **names: Any) -> Any:
            opened[str(name)] += 1
            return function(name, *arguments, **names)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", counted(os.open))
        patch.setattr("builtins.open", counted(open))
        rewritten = rewrite(path, selection, tmp_path / "out", max_shard_size=10**9)
    counts = [n for name, n in opened.items() if name.startswith(f"{path}/model-")]
    assert len(rewritten.shards) == 1
    assert rewritten.tensors > 300
    assert len(counts) == len(list(path.glob("*.safetensors")))
    # Its header and samples for the identity, each asked for and read; the values that change,
    # and the copied ranges.
    assert max(counts) <= 6
