"""Experts that somebody named."""

import json
import re

import numpy as np
import pytest

from easyep import selection
from easyep.architectures.router import Router
from easyep.errors import ArtifactError, SelectionError
from easyep.selection.terms import check_entry, check_named, named_experts
from tests import records

GROUPED = {"n_group": 2, "topk_group": 1}


def ids(flags) -> dict[int, list[int]]:
    return {layer: np.flatnonzero(each).tolist() for layer, each in flags.items()}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], {3: [], 4: [], 5: []}),
        ("3:1,7", {3: [1, 7], 4: [], 5: []}),
        ("4-5:2", {3: [], 4: [2], 5: [2]}),
        ("0,5-7", {3: [0, 5, 6, 7], 4: [0, 5, 6, 7], 5: [0, 5, 6, 7]}),
        (["1", "5:0"], {3: [1], 4: [1], 5: [0, 1]}),
    ],
)
def test_forms(entries, expected):
    assert ids(named_experts(entries, [3, 4, 5], 8)) == expected


def test_files(tmp_path):
    plain = tmp_path / "experts.json"
    plain.write_text('{"3": [1, 2]}')
    assert ids(named_experts(plain, [3, 4], 8)) == {3: [1, 2], 4: []}
    chosen = selection.select(records.scores({3: [0, 9, 8, 0], 4: [1, 0, 0, 2]}), 2)
    chosen.save(tmp_path / "s.json")
    assert ids(named_experts(str(tmp_path / "s.json"), [3, 4], 4)) == {3: [1, 2], 4: [0, 3]}
    plain.write_text(json.dumps({"3": ["a"]}))
    with pytest.raises(SelectionError, match="must be integers"):
        named_experts(plain, [3], 8)
    with pytest.raises(ArtifactError, match="does not exist"):
        named_experts("nothing.json", [3], 8)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("x", "names no experts; write LAYER:EXPERTS"),
        ("3:", "names no experts"),
        ("3-1:2", "has layers whose end is before its beginning"),
        ("12-10", "has a range whose end is before its beginning"),
        ("3:1,,2", "names no experts"),
        ("9:1", "there is no layer 9; those scored: 3, 4"),
        ("3-5:1", "there is no layer 5"),
        ("3:8", "there is no expert 8; a layer has 0 to 7"),
        ("3:7-6,9", "has a range whose end is before its beginning"),
    ],
)
def test_what_names_nothing(entry, message):
    with pytest.raises(SelectionError, match=message):
        named_experts(entry, [3, 4], 8)


@pytest.mark.parametrize("entry", ["3:1,7", "4-5:2", "0,5-7", "no-such.json"])
def test_forms_that_are_right_before_there_is_a_model(entry):
    check_entry(entry)


@pytest.mark.parametrize("entry", ["", "x", "3:", "5-3:1", "3:7-5", "super-experts", "a.txt"])
def test_forms_that_are_wrong_before_there_is_a_model(entry):
    with pytest.raises(SelectionError):
        check_entry(entry)


def test_files_name_layers_and_experts_that_there_are(tmp_path):
    file = tmp_path / "experts.json"
    file.write_text('{"7": [1]}')
    with pytest.raises(SelectionError, match=r"experts\.json: there is no layer 7"):
        named_experts(file, [3, 4], 8)
    file.write_text('{"3": [-1]}')
    with pytest.raises(SelectionError, match="there is no expert -1"):
        named_experts(file, [3], 8)
    for experts in ("[true]", "[0, 1.0]"):
        file.write_text(f'{{"3": {experts}}}')
        with pytest.raises(SelectionError, match="must be integers"):
            named_experts(file, [3], 8)
    file.write_text("[")
    with pytest.raises(ArtifactError, match="^experts: .* is not valid JSON"):
        named_experts(file, [3], 8)


@pytest.mark.parametrize(("length", "shown"), [(200, "x" * 200), (201, "x" * 200 + "...")])
def test_of_a_long_entry_the_beginning_is_told(length, shown):
    with pytest.raises(SelectionError, match=f"^'{re.escape(shown)}' names no experts"):
        named_experts("x" * length, [3], 8)


def test_what_is_named_is_checked_before_there_are_scores():
    router = Router(8, 2, 2, 1)
    check_named("super-experts", (), [3, 4], router, keep=4, groups="balanced")
    check_named(["super-experts", "0"], "7", [3, 4], router, keep=4, groups="balanced")
    with pytest.raises(SelectionError, match="group 0 .*3 experts are protected, 2 are kept"):
        check_named("3:0-2", (), [3, 4], router, keep=4, groups="balanced")
    with pytest.raises(SelectionError, match="protect fewer; or choose groups 'flatten'$"):
        check_named("3:0-2", (), [3, 4], router, keep=4, groups="balanced")
    check_named("3:0-2", (), [3, 4], router, keep=4, groups="flatten")
    with pytest.raises(SelectionError, match="there is no layer 9"):
        check_named((), "9:0", [3, 4], router, keep=4, groups="flatten")


@pytest.mark.parametrize("groups", ["balanced", "flatten"])
def test_a_quota_may_be_filled_to_the_last_expert(groups):
    scores = records.scores({0: [9, 8, 7, 6, 5, 4, 3, 2]}, **GROUPED)
    how = {"protect": "2,3", "forbid": "4,5", "groups": groups}
    if groups == "flatten":
        how = {"protect": "2,3,6,7", "forbid": "0,1,4,5", "groups": groups}
    assert selection.select(scores, 4, **how).layers[0] == (2, 3, 6, 7)


def test_protected_experts_stay_and_forbidden_ones_go():
    scores = records.scores({0: [9, 8, 7, 6, 5, 4], 3: [1, 2, 3, 4, 5, 6]})
    chosen = selection.select(scores, 3, protect="0:5", forbid=["0", "3:5"])
    assert chosen.layers == {0: (1, 2, 5), 3: (2, 3, 4)}


def test_within_groups():
    scores = records.scores({0: [9, 8, 7, 6, 5, 4, 3, 2]}, **GROUPED)
    assert selection.select(scores, 4, protect="7").layers[0] == (0, 1, 4, 7)
    assert selection.select(scores, 4, protect="7", groups="flatten").layers[0] == (0, 1, 2, 7)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"protect": "0", "forbid": "0"}, "layer 0: expert 0 is protected and forbidden"),
        ({"protect": "0-2"}, r"group 0 \(experts 0 to 3\): 3 experts are protected, 2 are kept"),
        ({"protect": "0-2"}, "or choose groups 'flatten'"),
        ({"forbid": "4-6"}, r"group 1 .*: 1 experts are left"),
        ({"forbid": "0-4", "groups": "flatten"}, "layer 0: 3 experts are left .* forbid fewer$"),
    ],
)
def test_what_no_choice_respects(how, message):
    scores = records.scores({0: [9, 8, 7, 6, 5, 4, 3, 2]}, **GROUPED)
    with pytest.raises(SelectionError, match=message):
        selection.select(scores, 4, **how)
