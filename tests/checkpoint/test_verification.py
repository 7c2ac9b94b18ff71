import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.headers import build_header
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.verification import Verification, verify
from easyep.errors import CheckpointError, ModelNotFoundError
from tests.checkpoint.raw_files import deepseek_fp8, gpt_oss_mxfp4, read_file
from tests.tiny_models import FAMILIES

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize("family", FAMILIES)
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
        *("manifest", "files", "layout", "checksums", "selection", "source"),
        *("selection of the source", "configuration", "small files"),
        *("tensor names", "tensor formats", "tensor bytes"),
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


class Pruned:
    """A pruned DeepSeek-V3 to be damaged, and its source."""

    def __init__(self, path: Path, source: Path) -> None:
        self.path, self.source = path, source

    def shard_of(self, tensor: str) -> Path:
        return self.path / Checkpoint.open(self.path).tensors[tensor].shard

    def flip(self, tensor: str, at: int = 0) -> None:
        found = Checkpoint.open(self.path).tensors[tensor]
        file = self.path / found.shard
        content = bytearray(file.read_bytes())
        content[found.begin + at] ^= 1
        file.write_bytes(content)

    def rebuild(self, shard: Path, change: Callable[[dict[str, Any]], object]) -> None:
        """Write a weight file again with other tensors, as a valid file."""
        tensors = read_file(shard)
        change(tensors)
        header = build_header(((n, d, s) for n, (d, s, _) in tensors.items()), {"format": "pt"})
        shard.write_bytes(header + b"".join(raw[2] for raw in tensors.values()))

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        value = json.loads((self.path / name).read_text())
        change(value)
        (self.path / name).write_text(json.dumps(value, indent=2))

    def sign(self) -> None:
        """Make all checksums right again, so that only the comparison can find the fault."""

        def change(manifest: dict[str, Any]) -> None:
            for name in manifest["checksums"]:
                digest = hashlib.sha256((self.path / name).read_bytes()).hexdigest()
                manifest["checksums"][name] = digest

        self.edit("easyep.json", change)

    def verify(self, with_source: bool = True) -> Verification:
        return verify(self.path, self.source if with_source else None)


@pytest.fixture
def pruned(source: Sources, choose: Chooser, tmp_path: Path) -> Pruned:
    path = source("deepseek_v3")
    out = rewrite(path, choose(path), tmp_path / "out", max_shard_size=60_000).path
    return Pruned(out, path)


EXPERT = "model.layers.1.mlp.experts.{}.up_proj.weight"
GATE = "model.layers.1.mlp.gate.weight"
BIAS = "model.layers.1.mlp.gate.e_score_correction_bias"
ATTENTION = "model.layers.2.self_attn.o_proj.weight"


def swap_experts(pruned: Pruned) -> None:
    one, two = EXPERT.format(2), EXPERT.format(3)

    def swap(tensors: dict[str, Any]) -> None:
        tensors[one], tensors[two] = tensors[two], tensors[one]

    pruned.rebuild(pruned.shard_of(one), swap)


def swap_router_rows(pruned: Pruned) -> None:
    def swap(tensors: dict[str, Any]) -> None:
        dtype, shape, data = tensors[GATE]
        row = len(data) // shape[0]
        tensors[GATE] = (dtype, shape, data[row : 2 * row] + data[:row] + data[2 * row :])

    pruned.rebuild(pruned.shard_of(GATE), swap)


def shorten_bias(pruned: Pruned) -> None:
    def shorten(tensors: dict[str, Any]) -> None:
        dtype, shape, data = tensors[BIAS]
        tensors[BIAS] = (dtype, (shape[0] - 1,), data[:-4])

    pruned.rebuild(pruned.shard_of(BIAS), shorten)


def remove_tensor(pruned: Pruned, name: str) -> None:
    pruned.rebuild(pruned.shard_of(name), lambda tensors: tensors.pop(name))
    pruned.edit(INDEX, lambda index: index["weight_map"].pop(name))


def reshape(pruned: Pruned) -> None:
    def change(tensors: dict[str, Any]) -> None:
        dtype, shape, data = tensors[ATTENTION]
        tensors[ATTENTION] = (dtype, (shape[0] // 2, shape[1] * 2), data)

    pruned.rebuild(pruned.shard_of(ATTENTION), change)


def add_tensor(pruned: Pruned) -> None:
    pruned.rebuild(pruned.shard_of(GATE), lambda tensors: tensors.update(extra=("U8", (1,), b"x")))
    shard = json.loads((pruned.path / INDEX).read_text())["weight_map"][GATE]
    pruned.edit(INDEX, lambda index: index["weight_map"].update(extra=shard))


def other_selection(pruned: Pruned) -> None:
    def change(manifest: dict[str, Any]) -> None:
        kept = manifest["selection"]["layers"]["1"]
        group = next(g for g in range(4) if kept[2 * g] // 4 == g)
        inside = [e for e in range(4 * group, 4 * group + 4) if e not in kept]
        kept[2 * group] = inside[0]
        kept.sort()

    pruned.edit("easyep.json", change)


FAULTS: dict[str, tuple[Callable[[Pruned], object], str]] = {
    "one flipped bit in an expert": (lambda p: p.flip(EXPERT.format(5), 9), "expert"),
    "one flipped bit in the router": (lambda p: p.flip(GATE, 99), "mlp.gate.weight.*differs"),
    "one flipped bit in the attention": (lambda p: p.flip(ATTENTION), "self_attn.*differs"),
    "swapped experts": (swap_experts, r"experts\.2\..*differs.*experts\.3\..*differs"),
    "swapped router rows": (swap_router_rows, "expert 0 in tensor .*gate.weight"),
    "missing bias row": (shorten_bias, r"bias' has shape \[7\]"),
    "missing bias": (lambda p: remove_tensor(p, BIAS), "no tensor for the part 'bias'"),
    "missing attention": (lambda p: remove_tensor(p, ATTENTION), "o_proj.*is missing"),
    "missing expert tensor": (
        lambda p: remove_tensor(p, EXPERT.format(0)),
        "do not consist of the same",
    ),
    "surplus tensor": (add_tensor, "'extra' is not in the source"),
    "another shape": (reshape, r"o_proj.*\[16, 64\]"),
    "stale index": (
        lambda p: p.edit(INDEX, lambda i: i["weight_map"].update(x=p.shard_of(GATE).name)),
        "index.* says that tensor 'x'",
    ),
    "wrong total size": (
        lambda p: p.edit(INDEX, lambda i: i["metadata"].update(total_size=1)),
        "states total_size 1",
    ),
    "wrong count alias": (
        lambda p: p.edit("config.json", lambda c: c.update(num_local_experts=16)),
        "contradicts itself",
    ),
    "wrong count": (
        lambda p: p.edit("config.json", lambda c: c.update(n_routed_experts=16)),
        "experts",
    ),
    "other groups": (
        lambda p: p.edit("config.json", lambda c: c.update(n_group=2)),
        "n_group is 2, in the source 4",
    ),
    "lost key": (
        lambda p: p.edit("config.json", lambda c: c.pop("topk_method")),
        "topk_method is None, in the source 'noaux_tc'",
    ),
    "other selection": (other_selection, "expert . of the source.* differs|differs"),
    "small file": (
        lambda p: (p.path / "tokenizer.json").write_text("{}"),
        "tokenizer.json differs from the source",
    ),
    "lost small file": (lambda p: (p.path / "LICENSE").unlink(), "LICENSE"),
    "stale weights": (
        lambda p: shutil.copy(p.shard_of(GATE), p.path / "model-00099-of-00099.safetensors"),
        "model-00099.* the index does not name",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found_by_comparison(pruned: Pruned, fault: str) -> None:
    import re

    plant, message = FAULTS[fault]
    plant(pruned)
    if fault != "lost small file":
        pruned.sign()
    result = pruned.verify()
    assert not result.ok
    assert re.search(message, "\n".join(result.problems), re.DOTALL), result.problems


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "other selection"])
def test_planted_faults_are_found_without_the_source(pruned: Pruned, fault: str) -> None:
    FAULTS[fault][0](pruned)
    result = pruned.verify(with_source=False)
    assert not result.ok
    assert result.problems


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
    pruned: Pruned, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    (problem,) = pruned.verify().problems
    assert problem.startswith("tensor bytes: ")
    assert problem.endswith("cannot be read: Input/output error")


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
    ],
)
def test_broken_manifests(
    pruned: Pruned, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    pruned.edit("easyep.json", change)
    assert any(message in problem for problem in pruned.verify().problems)


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
