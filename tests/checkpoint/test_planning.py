import dataclasses
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from easyep.architectures.spec import find_architecture
from easyep.artifacts.selection import Selection
from easyep.checkpoint import planning
from easyep.checkpoint.copying import Range, merged
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.headers import BITS, read_shard
from easyep.checkpoint.kept_experts import kept_experts
from easyep.checkpoint.layout import resolve
from easyep.checkpoint.planning import Plan, plan
from easyep.errors import CheckpointError, OutputError, SelectionError, UnknownNameError
from tests.checkpoint.raw_files import (
    Raw,
    deepseek_fp8,
    gpt_oss_mxfp4,
    read_all,
    tensor,
    write_checkpoint,
)
from tests.tiny_models import FAMILIES, WITH_MTP
from tests.tiny_models.settings import load_settings

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]


def used_bytes(work: Plan) -> Counter[str]:
    """How many bytes of each source tensor are used; every byte at most once."""
    owner = sorted((t.shard, t.begin, t.end, t.name) for t in work.checkpoint.tensors.values())
    used: Counter[str] = Counter()
    spans: list[tuple[str, int, int]] = []
    for shard in work.shards:
        for each in shard.tensors:
            used_here = sum(piece.nbytes for piece in each.ranges)
            assert used_here == each.nbytes or (each.change and used_here > each.nbytes)
            for piece in each.ranges:
                spans.append((piece.shard, piece.begin, piece.end))
                (name,) = (
                    name
                    for file, begin, end, name in owner
                    if file == piece.shard and begin <= piece.begin and piece.end <= end
                )
                used[name] += piece.nbytes
    spans.sort()
    for (file, _, end), (other, begin, _) in pairwise(spans):
        assert file != other or end <= begin, "a source byte is used twice"
    return used


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kept_byte_is_used_exactly_once_and_no_other(
    source: Sources, choose: Chooser, family: str
) -> None:
    selection = choose(source(family))
    work = plan(source(family), selection, max_shard_size=50_000)
    used = used_bytes(work)
    for layer in work.layout.layers.values():
        kept = selection.layers[layer.index]
        for number, expert in enumerate(layer.experts):
            for each in expert:
                assert used.pop(each.tensor.name, 0) == (number in kept) * each.tensor.nbytes
        for rows in layer.rows:
            long, short = (
                shape[rows.axis] for shape in (rows.tensor.shape, rows.shape_with(len(kept)))
            )
            whole = rows.axis > 0  # rows along a later axis are cut in memory
            share = rows.tensor.nbytes * (long if whole else short) // long
            assert used.pop(rows.tensor.name) == share
        for table in layer.tables:
            assert used.pop(table.name) == table.nbytes
    assert used == {name: work.checkpoint.tensors[name].nbytes for name in work.layout.kept}


def test_plans_say_what_they_will_do(source: Sources, choose: Chooser) -> None:
    work = plan(source("mixtral"), choose(source("mixtral")))
    assert (work.num_experts, work.keep) == (8, 4)
    assert work.bytes_before == sum(len(raw[2]) for raw in read_all(source("mixtral")).values())
    assert work.bytes_after == sum(shard.nbytes for shard in work.shards) < work.bytes_before
    assert work.disk_bytes > work.bytes_after
    assert work.side_files == ("LICENSE", "generation_config.json", "tokenizer.json")
    assert work.warnings == ()


def test_files_hold_layers_in_order_and_stay_below_their_limit(
    source: Sources, choose: Chooser
) -> None:
    work = plan(source("deepseek_v3"), choose(source("deepseek_v3")), max_shard_size=40_000)
    assert len(work.shards) > 3
    assert all(shard.nbytes <= 40_000 for shard in work.shards)
    names = [each.name for shard in work.shards for each in shard.tensors]
    layers = [work.layout.layer_of[name] for name in names if name in work.layout.layer_of]
    assert layers == sorted(layers)
    assert [s.name for s in work.shards] == [
        f"model-{i:05}-of-{len(work.shards):05}.safetensors" for i in range(1, len(work.shards) + 1)
    ]


def test_files_are_alike_so_that_several_can_be_written_at_once(
    source: Sources, choose: Chooser, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source("qwen3_moe")
    whole = plan(path, choose(path)).bytes_after
    monkeypatch.setattr("easyep.checkpoint.output_files.SMALL_BYTES", whole // 8)
    work = plan(path, choose(path))
    assert len(work.shards) == 4
    assert max(shard.nbytes for shard in work.shards) < 0.5 * whole
    assert sum(shard.nbytes for shard in work.shards) == whole


@pytest.mark.parametrize("limit", [1, 10_000, 40_000, 200_000])
def test_an_expert_and_its_scales_end_in_one_file(
    tmp_path: Path, choose: Chooser, limit: int
) -> None:
    path = deepseek_fp8(tmp_path / "m")
    work = plan(path, choose(path), max_shard_size=limit)
    shard_of = {each.name: shard.name for shard in work.shards for each in shard.tensors}
    for layer in (0, 1):
        for expert in range(4):
            prefix = f"model.layers.{layer}.mlp.experts.{expert}."
            files = {file for name, file in shard_of.items() if name.startswith(prefix)}
            assert len(files) == 1


def test_tensors_begin_on_the_boundary_of_their_type(tmp_path: Path, choose: Chooser) -> None:
    path = deepseek_fp8(tmp_path / "m")
    config = {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    config["num_hidden_layers"] = 1
    odd: dict[str, Raw] = {}
    for expert in range(4):  # one byte, then four: behind each other the second is off
        prefix = f"model.layers.0.block_sparse_moe.experts.{expert}."
        odd |= {prefix + "w1.weight": tensor("U8", 1), prefix + "w1.scale": tensor("F32", 1)}
    odd["model.layers.0.block_sparse_moe.gate.weight"] = tensor("BF16", 4, 3)
    other = write_checkpoint(tmp_path / "odd", config, odd)
    for each in (path, other):
        for shard in plan(each, choose(each), max_shard_size=10_000).shards:
            at = len(shard.header)
            for out in shard.tensors:
                assert at * 8 % BITS[out.dtype] == 0
                at += out.nbytes


def test_rows_of_packed_formats_are_ranges(tmp_path: Path, choose: Chooser) -> None:
    path = gpt_oss_mxfp4(tmp_path / "m")
    selection = choose(path)
    work = plan(path, selection)
    before = read_all(path)
    content = {name: (path / name).read_bytes() for name in work.checkpoint.shards}
    for each in work.shards[0].tensors:
        if ".mlp." not in each.name:
            continue
        kept = selection.layers[int(each.name.split(".")[2])]
        dtype, shape, data = before[each.name]
        row = len(data) // shape[0]
        assert (each.dtype, each.shape) == (dtype, (len(kept), *shape[1:]))
        got = b"".join(content[piece.shard][piece.begin : piece.end] for piece in each.ranges)
        assert got == b"".join(data[e * row : (e + 1) * row] for e in kept)


def test_adjacent_ranges_become_one() -> None:
    pieces = [Range("a", 0, 4), Range("a", 4, 6), Range("a", 8, 9), Range("b", 9, 10)]
    pieces += [Range("b", 10, 10), Range("b", 10, 12)]
    assert list(merged(pieces)) == [Range("a", 0, 6), Range("a", 8, 9), Range("b", 9, 12)]


def replaced(selection: Selection, **changes: object) -> Selection:
    return dataclasses.replace(selection, **changes)  # type: ignore[arg-type]


def test_selections_of_other_models_are_refused(source: Sources, choose: Chooser) -> None:
    good = choose(source("qwen3_moe"))
    layers = dict(good.layers)
    with pytest.raises(SelectionError, match="among 16 experts per layer, the model has 8"):
        plan(source("qwen3_moe"), replaced(good, num_experts=16))
    with pytest.raises(SelectionError, match=r"lacks layer 2; .*are 0, 1, 2"):
        plan(source("qwen3_moe"), replaced(good, layers={0: layers[0], 1: layers[1]}))
    with pytest.raises(SelectionError, match="names layer 3"):
        plan(source("qwen3_moe"), replaced(good, layers={**layers, 3: layers[0]}))
    one = replaced(good, keep=1, layers=dict.fromkeys(layers, (0,)))
    with pytest.raises(SelectionError, match=r"routed to 2; .*: 2"):
        plan(source("qwen3_moe"), one)


def test_another_checkpoint_of_the_same_form_is_allowed_with_a_warning(
    source: Sources, choose: Chooser
) -> None:
    good = choose(source("qwen3_moe"))
    other = replaced(good, model=dataclasses.replace(good.model, config_sha256="other"))
    (warning,) = plan(source("qwen3_moe"), other).warnings
    assert "'tiny'" in warning
    tuned = replaced(good, model=dataclasses.replace(good.model, weights_sha256="other"))
    assert plan(source("qwen3_moe"), tuned).warnings == (warning,)


def test_a_layout_that_is_known_is_not_resolved_again(
    source: Sources, choose: Chooser, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = choose(source("qwen3_moe"))
    checkpoint = Checkpoint.open(source("qwen3_moe"))
    layout = resolve(checkpoint, find_architecture(checkpoint.config))
    expected = plan(checkpoint, selection)

    def again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(planning, "resolve", again)
    assert plan(checkpoint, selection, layout=layout) == expected


def test_an_uneven_selection_is_refused_as_balanced(source: Sources, choose: Chooser) -> None:
    good = choose(source("deepseek_v3"))
    uneven = replaced(good, layers={**good.layers, 2: (0, 1, 2, 4, 5, 8, 9, 12)})
    with pytest.raises(SelectionError, match=r"layer 2 keeps \[3, 2, 2, 1\] experts of its 4"):
        plan(source("deepseek_v3"), uneven)
    plan(source("deepseek_v3"), replaced(uneven, groups="flatten"))


def test_groups_are_turned_off_where_the_selection_says_so(
    source: Sources, choose: Chooser
) -> None:
    good = choose(source("deepseek_v3"))
    assert ("n_group",) not in plan(source("deepseek_v3"), good).config_edits
    flat = plan(source("deepseek_v3"), replaced(good, groups="flatten"))
    assert flat.config_edits["n_group",] == 1


def test_of_two_groups_each_must_keep_the_same_number(source: Sources, choose: Chooser) -> None:
    checkpoint = Checkpoint.open(source("deepseek_v3"))
    layout = resolve(checkpoint, find_architecture(checkpoint.config))
    halves = dataclasses.replace(layout.router, n_group=2, topk_group=1)
    two = dataclasses.replace(layout, router=halves)
    good = choose(source("deepseek_v3"))
    assert kept_experts(two, good, "score")[2] == good.layers[2]
    uneven = replaced(good, layers={**good.layers, 2: (0, 1, 2, 3, 4, 8, 9, 10)})
    with pytest.raises(SelectionError, match=r"layer 2 keeps \[5, 3\] experts of its 2 groups"):
        kept_experts(two, uneven, "score")


@pytest.mark.parametrize("family", WITH_MTP)
def test_mtp_layers(source: Sources, choose: Chooser, family: str) -> None:
    settings = load_settings()[family]
    assert settings.mtp is not None
    if settings.mtp.own_experts is not None:
        pytest.skip("its experts are counted apart, and stay")
    last, mtp = settings.layers - 1, settings.mtp.index(settings.layers)
    with_mtp, without = choose(source(family)), choose(source(family), mtp=False)
    score = plan(source(family), with_mtp)
    assert score.kept_experts[mtp] == with_mtp.layers[mtp]
    with pytest.raises(SelectionError, match=rf"MTP layer \({mtp}\).*--mtp follow.*--mtp drop"):
        plan(source(family), without)
    for selection in (with_mtp, without):
        follow = plan(source(family), selection, mtp="follow")
        assert follow.kept_experts[mtp] == selection.layers[last]
        drop = plan(source(family), selection, mtp="drop")
        names = [each.name for shard in drop.shards for each in shard.tensors]
        prefix = settings.mtp.name.format(i=0, layer=settings.layers)
        assert not [name for name in names if name.startswith(prefix)]
        if settings.mtp.count:
            assert drop.config_edits[tuple(settings.mtp.count.split("."))] == 0
    with pytest.raises(UnknownNameError, match="did you mean 'follow'"):
        plan(source(family), with_mtp, mtp="folow")


def test_mtp_layers_that_the_configuration_denies(
    source: Sources, choose: Chooser, tmp_path: Path
) -> None:
    import json

    config = json.loads((source("glm4_moe") / "config.json").read_text())
    config["num_nextn_predict_layers"] = 0
    path = write_checkpoint(tmp_path / "m", config, read_all(source("glm4_moe")))
    with pytest.raises(CheckpointError, match=r"1 MTP layers .* declares 0.*'drop'"):
        plan(path, choose(path))
    plan(path, choose(path), mtp="drop")


def test_the_target_is_checked_too(source: Sources, choose: Chooser, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(OutputError, match="not empty"):
        plan(source("mixtral"), choose(source("mixtral")), output=tmp_path)


def test_planning_reads_headers_only(source: Sources, choose: Chooser, tmp_path: Path) -> None:
    """Weights that cannot be read do not matter: files with holes where the data should be."""
    path = tmp_path / "m"
    path.mkdir()
    for file in source("mixtral").iterdir():
        content = file.read_bytes()
        if file.suffix == ".safetensors":
            begin = read_shard(file, file.name).tensors[0].begin
            with open(path / file.name, "wb") as out:
                out.write(content[:begin])
                out.truncate(len(content))
        else:
            (path / file.name).write_bytes(content)
    assert plan(path, choose(source("mixtral"))).bytes_after > 0
