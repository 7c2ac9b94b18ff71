"""Errors can be read and printed whatever they quote."""

import pytest

from easyep.errors import LONGEST_MESSAGE, EasyEPError, OutputError


def test_a_message_is_what_was_said() -> None:
    assert str(OutputError("no room")) == "no room"
    assert str(EasyEPError()) == ""
    assert str(OutputError("x" * LONGEST_MESSAGE)) == "x" * LONGEST_MESSAGE


def test_pages_are_cut_out_of_the_middle() -> None:
    told = str(OutputError("begin" + "x" * 100_000 + "how to go on"))
    assert len(told) <= LONGEST_MESSAGE
    assert told.startswith("beginx")
    assert told.endswith("xhow to go on")


@pytest.mark.parametrize("half", ["\ud800", "a\udfffb"])
def test_half_a_character_is_written_out(half: str) -> None:
    str(OutputError(half)).encode("utf-8")
