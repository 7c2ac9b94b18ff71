"""What `--max-memory` means."""

from typing import Any

import pytest
import torch

from easyep.errors import ArtifactError
from easyep.memory_limits import limit, limits
from easyep.recipe import Recipe


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("6GiB", {"cpu": 6 * 2**30}),
        (1000, {"cpu": 1000}),
        ("0=70GiB,cpu=100GiB", {"0": 70 * 2**30, "cpu": 100 * 2**30}),
        ("0=70 GB, 1=5GB", {"0": 70 * 10**9, "1": 5 * 10**9}),
        ({0: "1GB", "cpu": 7}, {"0": 10**9, "cpu": 7}),
    ],
)
def test_forms(value: Any, expected: dict[str, int]) -> None:
    assert limits("max_memory", value) == expected
    recipe = Recipe("m", max_memory=value)
    assert recipe.max_memory == expected
    assert Recipe.from_mapping(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    "value",
    [
        "",
        "much",
        "gpu=6GiB",
        "0=6GiB,",
        "0=",
        "=6GiB",
        "0=1GB,0=2GB",
        "-1=6GiB",
        {},
        {"0": "x"},
        0,
        "12345=1GB",
    ],
)
def test_what_is_no_limit(value: Any) -> None:
    with pytest.raises(ArtifactError, match="max_memory"):
        limits("max_memory", value)


def test_the_limit_of_a_device() -> None:
    found = limits("max_memory", "0=2GB,1=3GB,cpu=1GB")
    assert limit(found, torch.device("cpu")) == 10**9
    assert limit(found, torch.device("cuda")) == 2 * 10**9
    assert limit(found, torch.device("cuda:1")) == 3 * 10**9
    assert limit(found, torch.device("cuda:2")) is None
    assert limit(None, torch.device("cpu")) is None
