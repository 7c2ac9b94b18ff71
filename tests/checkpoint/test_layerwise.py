"""Tensors of a plan that can be written before all layers are known."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from easyep.artifacts.selection import Selection
from easyep.checkpoint.layerwise import Layerwise
from easyep.checkpoint.output_files import OutputTensor
from easyep.checkpoint.planning import Plan, plan
from easyep.checkpoint.rewriting import begun, rewrite
from easyep.checkpoint.shard_file import ShardFile
from easyep.errors import OutputError
from tests.checkpoint.progress import Recorder
from tests.tiny_models import WITH_MTP

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]
SHARD_BYTES = 40_000

# Experts one by one and stacked, tables of experts, MTP layers, two sets of experts in a layer.
FAMILIES = ["deepseek_v3", "deepseek_v4", "ernie4_5_vl_moe", "gpt_oss", "mixtral"]


def planned(path: Path, selection: Selection) -> Plan:
    return plan(path, selection, max_shard_size=SHARD_BYTES)


def by_place(work: Plan) -> list[tuple[int, tuple[int, ...]]]:
    """The layers in the order in which a model runs them, and what they keep."""
    layers = work.layout.layers
    return sorted(work.kept_experts.items(), key=lambda each: (layers[each[0]].place, each[0]))


@pytest.fixture(params=FAMILIES)
def plans(request: pytest.FixtureRequest, source: Sources, choose: Chooser) -> tuple[Plan, Plan]:
    """A plan with stand-ins for the kept experts, and the one with those that are found."""
    path = source(request.param)
    first, then = (choose(path, seed=seed) for seed in (0, 1))
    assert first.layers != then.layers
    return planned(path, first), planned(path, then)


def test_tensors_come_in_the_order_of_their_files_and_as_they_are_planned_at_last(
    plans: tuple[Plan, Plan],
) -> None:
    stand_in, final = plans
    layers = Layerwise(stand_in)
    written: dict[str, list[OutputTensor]] = {shard.name: [] for shard in final.shards}
    for index, kept in by_place(final):
        for name, tensors in layers.layer(index, kept).items():
            assert tensors
            written[name] += tensors
    for shard in final.shards:
        mine = written[shard.name]
        assert [each.name for each in mine] == [each.name for each in shard.tensors[: len(mine)]]
        several = {
            rows.tensor.name
            for layer in final.layout.layers.values()
            for rows in layer.rows
            if len(rows.layers) > 1
        }
        for each, planned_ in zip(mine, shard.tensors, strict=False):
            assert each.name not in several  # they wait for the end
            assert (each.ranges, each.shape) == (planned_.ranges, planned_.shape)
            assert repr(each.change) == repr(planned_.change)
    assert any(written.values())


def test_where_a_tensor_lies_depends_on_no_choice(plans: tuple[Plan, Plan]) -> None:
    first, then = (
        [[(each.name, each.shape) for each in shard.tensors] for shard in work.shards]
        for work in plans
    )
    assert first == then


def test_what_lies_in_a_layer_comes_with_it(source: Sources, choose: Chooser) -> None:
    """Where nothing before it in its file is unknown: its attention, too, not only its experts."""
    work = plan(source("mixtral"), choose(source("mixtral")))
    (shard,) = work.shards
    layers = Layerwise(work)
    for index, kept in by_place(work):
        names = {each.name for each in layers.layer(index, kept)[shard.name]}
        mine = {each.name for each in shard.tensors if work.layout.layer_of.get(each.name) == index}
        assert mine <= names


def test_nothing_comes_before_its_layer(plans: tuple[Plan, Plan]) -> None:
    stand_in, final = plans
    layers = Layerwise(stand_in)
    for index, kept in by_place(final):
        place = final.layout.layers[index].place
        for tensors in layers.layer(index, kept).values():
            for each in tensors:
                assert final.layout.layer_of.get(each.name, -1) <= place


def test_a_layer_that_is_not_known_holds_back_what_follows_in_its_file(
    source: Sources, choose: Chooser
) -> None:
    work = planned(source("mixtral"), choose(source("mixtral")))
    first, second, *_ = work.kept_experts
    assert Layerwise(work).layer(first, work.kept_experts[first])
    layers = Layerwise(work)
    later = layers.layer(second, work.kept_experts[second])
    names = {each.name for tensors in later.values() for each in tensors}
    assert not any(f"layers.{first}.block_sparse_moe.experts" in name for name in names)
    layers.layer(first, work.kept_experts[first])
    (last,) = [index for index in work.kept_experts if index not in (first, second)]
    layers.layer(last, work.kept_experts[last])
    assert set(layers._next.values()) >= {len(work.shards[0].tensors)}


@pytest.mark.parametrize("order", ["all", "first", "none"])
def test_written_layer_by_layer_the_files_are_the_same(
    plans: tuple[Plan, Plan], tmp_path: Path, order: str
) -> None:
    stand_in, final = plans
    rewrite(final.checkpoint.path, final.selection, tmp_path / "whole", max_shard_size=SHARD_BYTES)
    with begun(stand_in, tmp_path / "layers", decided_by="a test") as rewriting:
        for number, (index, kept) in enumerate(by_place(final)):
            if order == "all" or (order == "first" and not number):
                rewriting.layer(index, kept)
        rewriting.finish(final)
    whole, layers = (
        {each.name: each.read_bytes() for each in (tmp_path / name).iterdir()}
        for name in ("whole", "layers")
    )
    assert layers == whole


def test_what_was_written_early_is_not_written_again(
    source: Sources, choose: Chooser, tmp_path: Path
) -> None:
    path = source("mixtral")
    work = planned(path, choose(path))
    early, late = Recorder(), Recorder()
    with begun(work, tmp_path / "m", decided_by="a test") as rewriting:
        rewriting._write = partial(rewriting._write, progress=early)
        for index, kept in by_place(work):
            rewriting.layer(index, kept)
        del rewriting._write
        rewriting.finish(work, progress=late)
    whole = sum(shard.file_bytes for shard in work.shards)
    assert 0 < late.done < early.done
    assert early.done + late.done == whole
    assert early.done == sum(total or 0 for _, total, _ in early.tasks)
    assert late.tasks == [("writing", late.done, "bytes")]


def test_what_is_written_early_is_read_back(
    source: Sources, choose: Chooser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands there for long before all is known to be right."""
    path = source("mixtral")
    work = planned(path, choose(path))
    monkeypatch.setattr(ShardFile, "_same", lambda *_: False)
    rewrite(path, work.selection, tmp_path / "whole", max_shard_size=SHARD_BYTES)
    index, kept = by_place(work)[0]
    with (
        pytest.raises(OutputError, match="does not give back what was written"),
        begun(work, tmp_path / "m", decided_by="a test") as rewriting,
    ):
        rewriting.layer(index, kept)


def test_a_layer_written_for_another_choice_is_written_again(
    source: Sources, choose: Chooser, tmp_path: Path
) -> None:
    path = source("mixtral")
    work, other = (planned(path, choose(path, seed=seed)) for seed in (0, 1))
    with begun(work, tmp_path / "m", decided_by="a test") as rewriting:
        for index, kept in by_place(work):
            rewriting.layer(index, kept)
        rewriting.finish(other)
    rewrite(path, other.selection, tmp_path / "whole", max_shard_size=SHARD_BYTES)
    for each in (tmp_path / "whole").iterdir():
        assert (tmp_path / "m" / each.name).read_bytes() == each.read_bytes()


def test_where_other_files_are_planned_all_begin_anew(
    source: Sources, choose: Chooser, tmp_path: Path
) -> None:
    path, selection = source("mixtral"), choose(source("mixtral"))
    work = planned(path, selection)
    other = plan(path, selection, max_shard_size=2 * SHARD_BYTES)
    with begun(work, tmp_path / "m", decided_by="a test") as rewriting:
        for index, kept in by_place(work):
            rewriting.layer(index, kept)
        rewriting.finish(other)
    rewrite(path, selection, tmp_path / "whole", max_shard_size=2 * SHARD_BYTES)
    whole, layers = (
        {each.name: each.read_bytes() for each in (tmp_path / name).iterdir()}
        for name in ("whole", "m")
    )
    assert layers == whole


def test_the_families_of_this_file_have_mtp_layers_too() -> None:
    assert set(FAMILIES) & set(WITH_MTP)
