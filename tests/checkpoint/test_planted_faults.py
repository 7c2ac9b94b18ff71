"""Faults that `verify` must find, with all checksums made right again, and without the source."""

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import Checkpoint
from tests.checkpoint.damage import INDEX, MANIFEST, Pruned
from tests.checkpoint.raw_files import Raw, read_all

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]

EXPERT = "model.layers.1.mlp.experts.{}.up_proj.weight"
GATE = "model.layers.1.mlp.gate.weight"
BIAS = "model.layers.1.mlp.gate.e_score_correction_bias"
ATTENTION = "model.layers.2.self_attn.o_proj.weight"


@pytest.fixture(scope="module")
def whole(source: Sources, choose: Chooser, tmp_path_factory: pytest.TempPathFactory) -> Pruned:
    return Pruned.make(source("deepseek_v3"), choose, tmp_path_factory.mktemp("whole"))


@pytest.fixture
def pruned(whole: Pruned, tmp_path: Path) -> Pruned:
    return whole.copy(tmp_path / "out")


def swap_router_rows(pruned: Pruned) -> None:
    def swap(tensors: dict[str, Raw]) -> None:
        dtype, shape, data = tensors[GATE]
        row = len(data) // shape[0]
        tensors[GATE] = (dtype, shape, data[row : 2 * row] + data[:row] + data[2 * row :])

    pruned.rebuild(pruned.shard_of(GATE), swap)


def shorten_bias(pruned: Pruned) -> None:
    def shorten(tensors: dict[str, Raw]) -> None:
        dtype, shape, data = tensors[BIAS]
        tensors[BIAS] = (dtype, (shape[0] - 1,), data[:-4])

    pruned.rebuild(pruned.shard_of(BIAS), shorten)


def reshape(pruned: Pruned) -> None:
    def change(tensors: dict[str, Raw]) -> None:
        dtype, shape, data = tensors[ATTENTION]
        tensors[ATTENTION] = (dtype, (shape[0] // 2, shape[1] * 2), data)

    pruned.rebuild(pruned.shard_of(ATTENTION), change)


def retype(pruned: Pruned) -> None:
    def change(tensors: dict[str, Raw]) -> None:
        _, shape, data = tensors[ATTENTION]
        tensors[ATTENTION] = ("I32", shape, data)

    pruned.rebuild(pruned.shard_of(ATTENTION), change)


def add_tensor(pruned: Pruned) -> None:
    shard = pruned.shard_of(GATE)
    pruned.rebuild(shard, lambda tensors: tensors.update(extra=("U8", (1,), b"x")))
    pruned.edit(INDEX, lambda index: index["weight_map"].update(extra=shard.name))


def renumber_a_layer(pruned: Pruned) -> None:
    """Experts of layer 1 in another order than the rows of its router."""
    for name in [
        name for name in Checkpoint.open(pruned.path).tensors if ".1.mlp.experts." in name
    ]:
        expert = int(name.split(".")[5])
        if expert < 4:  # 0 and 7 change places, 1 and 6, ...
            pruned.swap(name, name.replace(f"experts.{expert}.", f"experts.{7 - expert}."))


def other_selection(pruned: Pruned) -> None:
    def change(manifest: dict[str, Any]) -> None:
        kept = manifest["selection"]["layers"]["1"]
        group = next(g for g in range(4) if kept[2 * g] // 4 == g)
        inside = [e for e in range(4 * group, 4 * group + 4) if e not in kept]
        kept[2 * group] = inside[0]
        kept.sort()

    pruned.edit(MANIFEST, change)


def truncate(pruned: Pruned) -> None:
    shard = pruned.shard_of(EXPERT.format(3))
    shard.write_bytes(shard.read_bytes()[:-100])


def configured(**entries: Any) -> Callable[[Pruned], object]:
    return lambda pruned: pruned.edit("config.json", lambda config: config.update(entries))


# What is done -> how, and what is then said.
FAULTS: dict[str, tuple[Callable[[Pruned], object], str]] = {
    "one flipped bit in an expert": (
        lambda p: p.flip(EXPERT.format(5), 9),
        r"experts\.5\.up_proj.weight' \(expert \d+ of the source\) differs",
    ),
    "one flipped bit in a router row": (
        lambda p: p.flip(GATE, 3 * 128 + 5),
        r"expert 3 in tensor '.*mlp\.gate\.weight' \(expert \d+ of the source\) differs",
    ),
    "one flipped bit in a bias": (lambda p: p.flip(BIAS, 31), "expert 7 in tensor .*_bias"),
    "one flipped bit in the attention": (lambda p: p.flip(ATTENTION), "self_attn.*differs"),
    "one flipped bit in a name": (
        lambda p: p.flip_in_header(ATTENTION, b"o_proj"),
        f"{INDEX} says that tensor '{ATTENTION}'",
    ),
    "one flipped bit in a type": (
        lambda p: p.flip_in_header(ATTENTION, b"F32"),
        "unknown dtype 'G32'",
    ),
    "one flipped bit behind a header": (
        lambda p: p.flip_in_header(ATTENTION, b"}} "),
        "header that is not valid JSON",
    ),
    "one flipped bit in the metadata": (
        lambda p: p.flip_in_header(ATTENTION, b'pt"'),
        r"metadata: .* has \{'format': 'qt'\}",
    ),
    "swapped experts": (
        lambda p: p.swap(EXPERT.format(2), EXPERT.format(3)),
        r"experts\.2\..*differs.*experts\.3\..*differs",
    ),
    "wrong numbers in one layer": (renumber_a_layer, r"layers\.1\.mlp\.experts\.0\..*differs"),
    "swapped router rows": (swap_router_rows, "expert 0 in tensor .*gate.weight"),
    "missing bias row": (shorten_bias, r"bias' has shape \[7\]"),
    "missing bias": (lambda p: p.remove(BIAS), "no tensor for the part 'bias'"),
    "missing attention": (lambda p: p.remove(ATTENTION), "o_proj.*is missing"),
    "missing expert tensor": (
        lambda p: p.remove(EXPERT.format(0)),
        "do not consist of the same",
    ),
    "surplus tensor": (add_tensor, "'extra' is not in the source"),
    "another shape": (reshape, r"o_proj.*\[16, 64\]"),
    "another type": (retype, "o_proj.* is I32 .*in the source F32"),
    "truncated shard": (truncate, "header is wrong or the file truncated"),
    "stale index": (
        lambda p: p.edit(INDEX, lambda i: i["weight_map"].update(x=p.shard_of(GATE).name)),
        "index.* says that tensor 'x'",
    ),
    "wrong total size": (
        lambda p: p.edit(INDEX, lambda i: i["metadata"].update(total_size=1)),
        "states total_size 1",
    ),
    "extra weight file": (
        lambda p: shutil.copy(p.shard_of(GATE), p.path / "model-00099-of-00099.safetensors"),
        "model-00099.* the index does not name",
    ),
    "wrong count alias": (configured(num_local_experts=16), "contradicts itself"),
    "wrong count": (configured(n_routed_experts=16), "experts"),
    "other groups": (configured(n_group=2), "n_group is 2, in the source 4"),
    "other experts per token": (
        configured(num_experts_per_tok=1),
        "describes the router .*top_k=1",
    ),
    "lost key": (
        lambda p: p.edit("config.json", lambda c: c.pop("topk_method")),
        "topk_method is None, in the source 'noaux_tc'",
    ),
    "other selection in the manifest": (other_selection, "differs from the source"),
    "changed chat template": (
        lambda p: (p.path / "chat_template.jinja").write_text("{{ tools }}"),
        "chat_template.jinja differs from the source",
    ),
    "missing small file": (
        lambda p: (p.path / "LICENSE").unlink(),
        "LICENSE of the source is missing",
    ),
    "MTP layer that is not declared": (
        configured(num_nextn_predict_layers=0),
        "states 0 MTP layers, found 1",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_found_by_comparison(pruned: Pruned, fault: str) -> None:
    plant, message = FAULTS[fault]
    plant(pruned)
    pruned.sign()
    result = pruned.verify()
    assert not result.ok
    assert re.search(message, "\n".join(result.problems), re.DOTALL), result.problems
    assert not any("SHA-256" in problem for problem in result.problems)


@pytest.mark.parametrize("part", ["header", "data"])
def test_no_flipped_bit_goes_unnoticed(pruned: Pruned, part: str) -> None:
    rng = random.Random(part)
    files = sorted(pruned.path.glob("*.safetensors"))
    for _ in range(60):
        file = rng.choice(files)
        content = file.read_bytes()
        header = 8 + int.from_bytes(content[:8], "little")
        at = rng.randrange(header) if part == "header" else rng.randrange(header, len(content))
        flipped = bytearray(content)
        flipped[at] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        pruned.sign()
        assert not pruned.verify().ok, f"byte {at} of {file.name}"
        file.write_bytes(content)
    pruned.sign()
    assert pruned.verify().ok


# Where the weights lie says nothing about which experts they once were.
@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"other selection in the manifest"}))
def test_found_without_the_source(pruned: Pruned, fault: str) -> None:
    FAULTS[fault][0](pruned)
    assert not pruned.verify(with_source=False).ok


@pytest.mark.parametrize("with_source", [True, False])
def test_mtp_layer_that_was_dropped_but_is_declared(
    source: Sources, choose: Chooser, tmp_path: Path, with_source: bool
) -> None:
    pruned = Pruned.make(source("deepseek_v3"), choose, tmp_path, mtp="drop")
    assert pruned.verify(with_source).ok
    configured(num_nextn_predict_layers=1)(pruned)
    pruned.sign()
    assert any(
        "MTP layers were dropped, but" in each for each in pruned.verify(with_source).problems
    )


TABLE = "layers.0.ffn.gate.tid2eid"


def values(raw: Raw) -> NDArray[np.int64]:
    return np.frombuffer(raw[2], "<i8").reshape(raw[1]).copy()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row[::-1], r"row \d+ lost an expert that is kept"),
        (lambda row: [row[0], row[0]], "names an expert twice in a row"),
        (lambda row: [4, row[1]], r"names experts \d to 4; there are 4"),
    ],
    ids=["exchanged", "twice", "no such expert"],
)
def test_wrong_tables_of_experts(
    source: Sources, choose: Chooser, tmp_path: Path, change: Any, message: str
) -> None:
    pruned = Pruned.make(source("deepseek_v4"), choose, tmp_path)
    before = values(read_all(pruned.source)[TABLE])
    whole = np.isin(before, choose(pruned.source).layers[0]).all(axis=1)

    def plant(tensors: dict[str, Raw]) -> None:
        dtype, shape, _ = tensors[TABLE]
        table = values(tensors[TABLE])
        row = np.flatnonzero(whole)[0]
        table[row] = change(table[row])
        tensors[TABLE] = (dtype, shape, table.tobytes())

    pruned.rebuild(pruned.shard_of(TABLE), plant)
    pruned.sign()
    (problem,) = pruned.verify().problems
    assert re.match(f"tables of experts: tensor '{TABLE}'.*{message}", problem)


def test_nothing_is_found_where_nothing_was_planted(pruned: Pruned) -> None:
    pruned.sign()
    assert pruned.verify().ok
    assert pruned.verify(with_source=False).ok
