"""The domains that come with easyep."""

import pytest

from easyep.demonstrations import (
    domain_file,
    domains,
    file_or_domain,
    parse_domain,
    parse_weighted,
)
from easyep.errors import DemosError, UnknownNameError


def test_the_demo_model_has_its_own_domains():
    assert {"math", "code", "facts", "strings", "lexicon", "tools"} <= set(domains("demo"))
    assert domain_file("math", "demo").name == "math.jsonl"


def test_an_unknown_domain_suggests_the_closest():
    with pytest.raises(UnknownNameError, match=r"did you mean 'math'.*--demos FILE"):
        domain_file("maths", "demo")


def test_where_a_file_does_as_well_the_error_says_so():
    with pytest.raises(UnknownNameError, match=r"did you mean 'math'.*a path to a JSONL file"):
        file_or_domain("maths")


@pytest.mark.parametrize("name", ["../demo/math", "demo/math", ".", ""])
def test_a_domain_is_no_path(name):
    with pytest.raises(UnknownNameError):
        domain_file(name, "demo")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("math", ("math", 1.0)),
        ("math:0.5", ("math", 0.5)),
        ("c:/demos.jsonl", ("c:/demos.jsonl", 1.0)),
        ("c:/demos.jsonl:2", ("c:/demos.jsonl", 2.0)),
    ],
)
def test_weights(text, expected):
    assert parse_weighted(text) == expected


@pytest.mark.parametrize("weight", ["0", "-1", "inf", "nan"])
def test_weights_are_positive_numbers(weight):
    with pytest.raises(DemosError, match="positive number"):
        parse_weighted(f"math:{weight}")


@pytest.mark.parametrize("weight", ["abc", "0,5", "", "0.5:2", "-1"])
def test_no_domain_has_a_colon_in_its_name(weight):
    assert parse_domain("math:0.5") == ("math", 0.5)
    with pytest.raises(DemosError, match="the weight of 'math' must be a positive number"):
        parse_domain(f"math:{weight}")
