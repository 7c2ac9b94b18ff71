"""What the tests of the domains rely on finds what is wrong."""

import pytest

from easyep.errors import DemosError
from tests.calibration_data import proofs


def test_second_results_come_in_order_and_failures_are_named():
    specs = [{"program": "print(2 + 2)"}, {"program": "pick({'A': 1, 'B': 2.01}, 2)"}]
    assert proofs.second_results(specs) == ["4", "B"]
    with pytest.raises(DemosError, match="ZeroDivisionError"):
        proofs.second_results([*specs, {"program": "print(1 // 0)"}])


TOOL = {
    "function": {
        "name": "f",
        "parameters": {
            "type": "object",
            "properties": {
                "n": {"type": "integer"},
                "to": {"type": "array", "items": {"type": "string"}},
                "way": {"type": "string", "enum": ["up", "down"]},
            },
            "required": ["n"],
        },
    }
}


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("f", {"n": 1, "to": ["a"], "way": "up"}, ""),
        ("f", '{"n": 1}', ""),
        ("g", {"n": 1}, "there is no tool 'g'"),
        ("f", {}, "lacks 'n'"),
        ("f", {"n": "1"}, "does not take n='1'"),
        ("f", {"n": True}, "does not take n=True"),
        ("f", {"n": 1, "to": [2]}, "does not take to=[2]"),
        ("f", {"n": 1, "way": "left"}, "does not take way='left'"),
        ("f", {"n": 1, "m": 1}, "does not take m=1"),
    ],
)
def test_tool_calls_against_their_schemas(name, arguments, why):
    call = {"function": {"name": name, "arguments": arguments}}
    found = proofs.check_calls([{"role": "assistant", "tool_calls": [call]}], [TOOL])
    assert why in found
    assert bool(found) == bool(why)


@pytest.mark.parametrize(("told", "right"), [("2", True), ("3", False)])
def test_sessions_are_played_again(told, right):
    call = {"function": {"name": "shell", "arguments": {"command": "cat n"}}}
    turns = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": told},
        {"role": "assistant", "content": "so\n```bash\nwc -l < n\n```\n"},
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "done"},
    ]
    assert (proofs.check_session(turns, "echo 2 > n") == "") == right
