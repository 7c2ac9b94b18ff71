import pytest

from easyep.architectures.definitions import load_definitions, read_definitions
from easyep.errors import UnsupportedModelError

BASE = r"""
summary = "a base"
model_types = ["base"]
keep = ['mlp\.shared\..+']
[config]
num_experts = ["num_experts"]
top_k = ["num_experts_per_tok"]
num_layers = ["num_hidden_layers"]
[tensors.experts]
kind = "per_expert"
name = 'mlp\.experts\.(?P<expert>\d+)\..+'
[tensors.router]
kind = "rows"
name = 'mlp\.gate\.weight'
[tensors.bias]
kind = "rows"
name = 'mlp\.gate\.bias'
"""


def test_every_file_that_comes_with_easyep_is_valid() -> None:
    assert len(load_definitions()) >= 8


def test_extending_overrides_table_by_table() -> None:
    child = """
    extends = "base"
    model_types = ["child"]
    keep = []
    [tensors]
    bias = false
    [tensors.router]
    name = 'router'
    """
    found = read_definitions({"base": BASE, "child": child})["child"]
    assert found.model_types == ("child",)
    assert found.summary == "a base"
    assert not found.stacks[0].keep
    assert [(rule.label, rule.kind) for rule in found.stacks[0].rules] == [
        ("experts", "per_expert"),
        ("router", "rows"),
    ]
    assert found.stacks[0].rules[1].name.pattern == "router"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[config]", "[config"), "architecture file base.toml: "),
        (("summary", "sumary"), "the file has unknown key 'sumary'"),
        (("top_k", "topk"), "unknown key 'topk'"),
        (("[config]", "[config]\ngroup_best = 0"), "group_best is 0; expected 1 or more"),
        (("[config]", "[config]\ngroup_best = ['x']"), "group_best is .*; expected 1 or more"),
        (('num_layers = ["num_hidden_layers"]', ""), "needs num_layers"),
        (('kind = "per_expert"', 'kind = "row"'), "needs kind = one of per_expert, rows, table"),
        (('kind = "per_expert"', 'kind = "rows"'), "regex group"),
        ((r"(?P<expert>\d+)", r"\d+"), "regex group"),
        (("name = 'mlp", "name = '(mlp"), r"name: missing \)"),
        (("[tensors.router]", "[tensors.route]"), "describes the part 'router'"),
        ((r"name = 'mlp\.gate\.bias'", "name = 'b'\naxis = -1"), "axis must be an integer >= 0"),
        ((r"name = 'mlp\.gate\.bias'", "name = 'b'\nstride = 1"), "unknown key 'stride'"),
        (("summary", "scope = 'x'\nsummary"), "scope needs the regex groups"),
        (("summary", 'extends = "none"\nsummary'), "extends 'none', which does not exist"),
        (("summary", 'extends = "base"\nsummary'), "round in circles: base -> base"),
    ],
)
def test_mistakes_are_named(change: tuple[str, str], message: str) -> None:
    assert change[0] in BASE
    with pytest.raises(UnsupportedModelError, match=message):
        read_definitions({"base": BASE.replace(*change, 1)})


def test_a_model_type_belongs_to_one_family() -> None:
    with pytest.raises(UnsupportedModelError, match="both claim model_type 'base'"):
        read_definitions({"base": BASE, "other": BASE})
