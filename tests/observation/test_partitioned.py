"""A model divided over processes records what the whole model does."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from easyep.artifacts import RoutedTokens
from easyep.distributed import join
from easyep.errors import MissingDependencyError
from easyep.loading import load_model
from easyep.observation import partitioned
from easyep.observation.in_memory import observe_in_memory, run_in_memory
from easyep.observation.partitioned import partition
from easyep.observation.weights.partial import PartialModel
from easyep.recipe import Recipe
from easyep.runners.deepspeed import DeepSpeed
from easyep.source import Source
from tests.observation.test_recorder import sequence
from tests.ranks import run_ranks
from tests.tiny_models import build

installed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)


def divided(
    path: Path, size: int, demos: list[Any], config: dict[str, Any], dtype: str
) -> list[Any]:
    """(records in rank 0, numbers that the process holds of all parameters, of how many)."""

    def work(number: int) -> Any:
        group, source = join(60), Source.open(path)
        empty = PartialModel(source.checkpoint, source.layout, dtype=dtype)
        model = partition(empty, torch.device("cpu"), group, config)
        assert not empty.reader._files  # closed
        parts: dict[int, list[RoutedTokens]] = {}

        def keep(numbers: Any, found: Any) -> None:
            for layer, part in found.items():
                parts.setdefault(layer, []).append(part)

        run_in_memory(model, demos, keep, group=group)
        parameters = list(empty.decoder.parameters())
        assert not any(parameter.numel() for parameter in parameters)  # they are apart again
        return (
            {layer: RoutedTokens.concatenate(each) for layer, each in sorted(parts.items())},
            sum(parameter.ds_tensor.numel() for parameter in parameters),
            sum(parameter.ds_numel for parameter in parameters),
        )

    return list(run_ranks(size, work))


def check(path: Path, size: int, config: dict[str, Any], dtype: str = "float32") -> None:
    demos = [sequence(length, 60, seed=length) for length in (70, 9, 30)]
    expected = observe_in_memory(load_model(path, dtype=dtype, device="cpu"), demos)
    (found, *_), *others = results = divided(path, size, demos, config, dtype)
    assert all(not other[0] for other in others)
    source, each = Source.open(path), 4 if dtype == "float32" else 2
    forecast = DeepSpeed(Recipe(str(path), dtype=dtype), source).share(size, None)
    for _, mine, whole in results:
        assert each * mine < forecast.holds < each * whole
        assert mine < 1.05 * whole / size + 1000  # shares are rounded up
    assert found.keys() == expected.keys()
    for layer, record in expected.items():
        assert np.array_equal(found[layer].expert_ids, record.expert_ids)
        assert np.array_equal(found[layer].demo, record.demo)
        for name in ("weights", "output_norms", "residual_shift"):
            mine, its = getattr(found[layer], name), getattr(record, name)
            np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-6 * its.max())


@installed
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_processes_hold_half_a_model_each(tmp_path: Path, dtype: str) -> None:
    check(build("deepseek_v3", tmp_path / "m", dtype=dtype), 2, {}, dtype)


@installed
@pytest.mark.slow
@pytest.mark.parametrize("family", ["afmoe", "gpt_oss", "jetmoe", "llama4", "mixtral"])
def test_families_over_three_processes(family: str, tmp_path: Path) -> None:
    check(build(family, tmp_path / "m"), 3, {})


@installed
@pytest.mark.slow
def test_parameters_in_main_memory(tmp_path: Path) -> None:
    offload = {"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}}
    check(build("deepseek_v3", tmp_path / "m"), 2, offload)


def test_without_deepspeed_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "deepspeed", None)
    with pytest.raises(MissingDependencyError, match=r"easyep\[deepspeed\]"):
        partitioned._deepspeed()
