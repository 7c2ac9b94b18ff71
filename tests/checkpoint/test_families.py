"""Every family: each tensor explained once, and pruning gives what a model built that small has."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from easyep.architectures.spec import find_architecture
from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.inspection import inspect
from easyep.checkpoint.layout import resolve
from easyep.checkpoint.planning import plan
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.verification import verify
from easyep.scoring import score
from tests.checkpoint import by_difference
from tests.checkpoint.raw_files import read_all
from tests.tiny_models import FAMILIES, WITH_MTP, build
from tests.tiny_models.settings import load_settings

Sources = Callable[[str], Path]
Chooser = Callable[..., Selection]


@dataclass(frozen=True)
class Pruned:
    """A tiny checkpoint, the same built with half the experts, and itself pruned to a half."""

    source: Path
    small: Path
    selection: Selection
    path: Path


@pytest.fixture(scope="module")
def pruned(
    source: Sources, choose: Chooser, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Pruned]:
    """family -> its checkpoint, pruned once."""
    done: dict[str, Pruned] = {}

    def get(family: str) -> Pruned:
        if family not in done:
            path = tmp_path_factory.mktemp(family)
            selection = choose(source(family))
            small = build(
                family,
                path / "small",
                num_experts=selection.keep,
                mtp=int(family in WITH_MTP),
            )
            out = rewrite(source(family), selection, path / "out", max_shard_size=30_000).path
            done[family] = Pruned(source(family), small, selection, out)
        return done[family]

    return get


def has_mtp(family: str) -> bool:
    """Whether the tiny checkpoint has MTP layers with as many experts as the others."""
    mtp = load_settings()[family].mtp
    return mtp is not None and mtp.own_experts is None


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_explained_once(source: Sources, family: str) -> None:
    checkpoint = Checkpoint.open(source(family))
    layout = resolve(checkpoint, find_architecture(checkpoint.config))
    names = list(layout.kept)
    for layer in layout.layers.values():
        names += [each.tensor.name for expert in layer.experts for each in expert]
        names += [rows.tensor.name for rows in layer.rows]
        names += [table.name for table in layer.tables]
    assert sorted(names) == sorted(read_all(source(family)))
    assert len(layout.moe_layers) >= 2
    assert len(layout.mtp_layers) == int(has_mtp(family))
    settings = load_settings()[family]
    assert {name for name in names if layout.is_mtp(name)} == {
        name for name in names if by_difference.is_mtp(name, settings)
    }
    assert layout.mtp_depth in (len(layout.mtp_layers), int(any(map(layout.is_mtp, names))))


@pytest.mark.parametrize("family", FAMILIES)
def test_names_shapes_and_configuration_are_those_of_a_model_built_that_small(
    pruned: Callable[[str], Pruned], family: str
) -> None:
    found = pruned(family)
    forms = [
        {name: raw[:2] for name, raw in read_all(path).items()}
        for path in (found.small, found.path)
    ]
    assert forms[0] == forms[1]
    configs = [json.loads((path / "config.json").read_text()) for path in (found.small, found.path)]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_bytes_are_the_sources(pruned: Callable[[str], Pruned], family: str) -> None:
    found = pruned(family)
    settings = load_settings()[family]
    expected = by_difference.pruned(found.source, found.small, settings, found.selection)
    written = read_all(found.path)
    assert {name: written[name] for name in expected} == expected
    assert all(by_difference.TABLES.search(name) for name in written.keys() - expected.keys())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("criterion", ["aimer", "router-norm"])
def test_weights_are_read_as_the_kept_experts_own(
    pruned: Callable[[str], Pruned], family: str, criterion: str
) -> None:
    """Scores by weights of the pruned model are those of its experts before."""
    found = pruned(family)
    before = score(criterion=criterion, model=found.source, mtp="score")
    after = score(criterion=criterion, model=found.path, mtp="score")
    assert after.layers.keys() == before.layers.keys()
    for layer, values in after.layers.items():
        kept = list(found.selection.layers[layer])
        assert values.tolist() == before.layers[layer][kept].tolist()
        assert (values > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_verify_agrees(pruned: Callable[[str], Pruned], family: str) -> None:
    found = pruned(family)
    for result in (verify(found.path), verify(found.path, found.source)):
        assert result.ok, result.problems


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_add_up_and_savings_are_what_a_plan_says(
    source: Sources, choose: Chooser, family: str
) -> None:
    found = inspect(source(family))
    tensors = read_all(source(family))
    assert found.model_type == load_settings()[family].release
    total = sum(len(raw[2]) for raw in tensors.values())
    assert sum(part.bytes for part in found.parts) == found.bytes == total
    assert min(found.part("routed experts").bytes, found.part("router").bytes) > 0
    settings = load_settings()[family]
    sizes = [len(raw[2]) for name, raw in tensors.items() if by_difference.is_mtp(name, settings)]
    assert found.part("MTP").bytes == sum(sizes)
    fractions = (0.75, 0.5, 0.25) if found.n_group == 1 else (0.75, 0.5)
    assert [saving.keep for saving in found.savings] == [f * found.experts for f in fractions]
    for saving in found.savings:
        work = plan(source(family), choose(source(family), saving.keep))
        assert saving.bytes == work.bytes_after
