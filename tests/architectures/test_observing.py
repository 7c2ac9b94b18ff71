"""The table ``[observation]`` of a family."""

from typing import Any

import pytest

from easyep.architectures.observing import DIFFUSION, ObservationNotes


def test_what_is_not_stated_is_found_out() -> None:
    assert ObservationNotes.from_toml({}) == ObservationNotes(None, None, 32)


@pytest.mark.parametrize("diffusion", DIFFUSION)
@pytest.mark.parametrize("block", [1, 64, "block_size"])
def test_what_is_stated(diffusion: str, block: int | str) -> None:
    table = {"stream": "norm2", "diffusion": diffusion, "block": block}
    assert ObservationNotes.from_toml(table) == ObservationNotes("norm2", diffusion, block)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"streams": "norm2"}, r"unknown key 'streams' \(valid: block, diffusion, stream\)"),
        ({"stream": ""}, "stream must be the name of a submodule"),
        ({"stream": 3}, "stream must be the name of a submodule"),
        ({"diffusion": "whole"}, "diffusion must be one of full, blocks, canvas"),
        ({"block": 0}, "block must be a number of tokens, or a key"),
        ({"block": -1}, "block must be a number of tokens, or a key"),
        ({"block": True}, "block must be a number of tokens, or a key"),
        ({"block": ""}, "block must be a number of tokens, or a key"),
        ({"block": 1.5}, "block must be a number of tokens, or a key"),
    ],
)
def test_mistakes_are_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^\[observation\] (has )?{message}"):
        ObservationNotes.from_toml(table)
