from typing import Any

import pytest

from easyep.architectures.moe_layers import MoeLayers
from easyep.errors import CheckpointError


def layers(keys: dict[str, Any], config: dict[str, Any], **defaults: Any) -> Any:
    return MoeLayers.from_toml(keys).layers(config.get, defaults, 8)


@pytest.mark.parametrize(
    ("keys", "config", "expected"),
    [
        ({}, {}, range(8)),
        ({"dense_first": "d"}, {"d": 3}, range(3, 8)),
        ({"dense_first": "d"}, {}, range(8)),
        ({"dense_first": "d", "last": "l"}, {"d": 1, "l": 4}, range(1, 5)),
        ({"last": "l"}, {"l": -1}, range(8)),
        ({"last": "l"}, {"l": 0}, (0,)),
        ({"dense_first": "d", "last": "l"}, {"d": [1, 1], "l": [9, 8]}, range(1, 8)),
        ({"step": "s"}, {"s": 2}, (1, 3, 5, 7)),
        ({"step": "s", "offset": "o"}, {"s": 4, "o": 2}, (2, 6)),
        ({"frequency": "f"}, {"f": 3}, (0, 3, 6)),
        ({"frequency": "f", "dense_first": "d"}, {"f": 2, "d": 1}, (2, 4, 6)),
        ({"frequency": "f"}, {"f": [0, 1, 1, 0, 0, 0, 0, 1]}, (1, 2, 7)),
        ({"frequency": "f"}, {"f": [0, 1, 1]}, (1, 2)),
        ({"dense_layers": "x", "step": "s"}, {"x": [3], "s": 2}, (1, 5, 7)),
        ({"types": "t"}, {"t": ["dense", "sparse"] * 4}, (1, 3, 5, 7)),
        ({"types": "t", "moe_types": ["E"]}, {"t": "ME*EMMEM"}, (1, 3, 6)),
        ({"types": "t", "dense_first": "d"}, {"d": 7}, (7,)),
        ({"listed": "l"}, {"l": "3, 4,6"}, (3, 4, 6)),
        ({"listed": "l"}, {"l": [6, 3, 9]}, (3, 6)),
        ({"listed": "l"}, {"l": [8, 7, 0, -1]}, (0, 7)),
        ({"listed": ["k", "l"]}, {"l": [6, 3, 9]}, (3, 6)),
        ({"types": ["t", "u"], "moe_types": ["E"]}, {"u": "EMMMMMMM", "v": 1}, (0,)),
    ],
)
def test_every_way_of_saying_it(
    keys: dict[str, Any], config: dict[str, Any], expected: Any
) -> None:
    assert layers(keys, config) == tuple(expected)


def test_defaults_stand_in_for_what_is_not_stated() -> None:
    assert layers({"dense_first": "d"}, {}, dense_first=2) == tuple(range(2, 8))


@pytest.mark.timeout(60)
def test_long_lists_take_no_longer() -> None:
    """Each of a million layers was looked for in the whole list."""
    keys = {"dense_layers": "x"}
    config = {"x": [*range(1, 1_000_000), *range(2_000_000, 2_100_000)]}
    found = MoeLayers.from_toml(keys).layers(config.get, {}, 1_000_000)
    assert found == (0,)


def test_a_configuration_may_not_tell() -> None:
    assert layers({"unstated": True}, {}) is None


@pytest.mark.parametrize(
    ("keys", "config", "message"),
    [
        ({"dense_first": "d"}, {"d": "3"}, "d is '3', expected int"),
        ({"dense_first": "d"}, {"d": [1, 2]}, r"d is \[1, 2\]; easyep needs both sets"),
        ({"dense_first": "d"}, {"d": [7, 6]}, r"d is \[7, 6\]; easyep needs both sets"),
        ({"last": "l"}, {"l": []}, r"l is \[\]"),
        ({"last": "l"}, {"l": [1, "2"]}, r"l is \[1, '2'\]$"),
        ({"types": "t"}, {"t": ["sparse"]}, "t describes 1 of 8 layers"),
        ({"listed": "l"}, {"l": "3,x"}, "l is .*expected numbers"),
        ({"listed": "l"}, {"l": f"3,{'9' * 5000}"}, "l is .*expected numbers"),
        ({"dense_layers": "x"}, {"x": [3, "4"]}, "x is .*expected numbers"),
        ({"frequency": "f"}, {"f": "1"}, "f is '1', expected int or list"),
    ],
)
def test_values_that_cannot_be_understood(
    keys: dict[str, Any], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        layers(keys, config)


@pytest.mark.parametrize("table", [{"first": "x"}, {"step": 2}, {"moe_types": "E"}, {"types": 1}])
def test_mistakes_in_the_file(table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^\[config\.moe_layers\] "):
        MoeLayers.from_toml(table)
