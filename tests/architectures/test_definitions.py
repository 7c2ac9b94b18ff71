import sys
import warnings
from pathlib import Path

import pytest

from easyep.architectures.definitions import load_definitions, read_definitions
from easyep.architectures.rules import compiled
from easyep.errors import PluginError, UnsupportedModelError

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


def test_numbers_of_rows_may_be_keys_of_the_configuration() -> None:
    rows = "name = 'b'\nrows_per_expert = 'heads'\ntail = 'extra'\noptional = 'router'\naxis = 0"
    found = read_definitions({"base": BASE.replace(r"name = 'mlp\.gate\.bias'", rows)})["base"]
    rule = found.stacks[0].rules[2]
    assert (rule.rows_per_expert, rule.tail, rule.optional) == ("heads", "extra", "router")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[config]", "[config"), "architecture file base.toml: "),
        (("summary", "sumary"), "the file has unknown key 'sumary'"),
        (("top_k", "topk"), "unknown key 'topk'"),
        (("[config]", "[config]\ngroup_best = 0"), "group_best is 0; expected 1 or more"),
        (("[config]", "[config]\ngroup_best = ['x']"), "group_best is .*; expected 1 or more"),
        (('num_layers = ["num_hidden_layers"]', ""), "needs num_layers"),
        (('["num_experts"]', '"num_experts"'), "num_experts must be a list of strings"),
        (('["num_experts"]', "[3]"), "num_experts must be a list of strings"),
        (('["base"]', '"base"'), "model_types must be a list of strings"),
        ((r"['mlp\.shared\..+']", "'x'"), "keep must be a list of strings"),
        (("[config]", "[transformers]\nruns_mtp = 'x'\n[config]"), "runs_mtp must be a list"),
        (('kind = "per_expert"', 'kind = "row"'), "needs kind = one of per_expert, rows, table"),
        (('kind = "per_expert"', 'kind = "rows"'), "regex group"),
        ((r"(?P<expert>\d+)", r"\d+"), "regex group"),
        (("name = 'mlp", "name = '(mlp"), r"name: missing \)"),
        (("name = 'mlp", "name = '[[]mlp"), "name: Possible nested set"),
        (("[tensors.router]", "[tensors.route]"), "describes the part 'router'"),
        ((r"name = 'mlp\.gate\.bias'", "name = 'b'\naxis = -1"), "axis must be an integer >= 0"),
        ((r"name = 'mlp\.gate\.bias'", "name = 'b'\nstride = 1"), "unknown key 'stride'"),
        ((r"name = 'mlp\.gate\.bias'", "name = 'b'\nlabel = 'c'"), "unknown key 'label'"),
        (
            (r"name = 'mlp\.gate\.bias'", "name = 'b'\nrows_per_expert = 'heads'\ntail = -1"),
            "tail must be an integer >= 0",
        ),
        ((r"name = 'mlp\.gate\.bias'", "name = 3"), r"\[tensors.bias\] name must be a string"),
        ((r"name = 'mlp\.gate\.bias'", ""), r"\[tensors.bias\] name must be a string"),
        ((r"name = 'mlp\.gate\.bias'", "name = 'b'\naxis = 'x'"), "axis must be an integer >= 0"),
        ((r"name = 'mlp\.gate\.bias'", "name = 'b'\naxis = true"), "axis must be an integer >= 0"),
        ((r"name = 'mlp\.gate\.bias'", "name = 'b'\nbank = -1"), "bank must be an integer >= 0"),
        ((r"name = 'mlp\.gate\.bias'", "name = 'b'\ntail = -1"), "tail must be an integer >= 0"),
        (
            (r"name = 'mlp\.gate\.bias'", "name = 'b'\nrows_per_expert = 0"),
            "rows_per_expert must be an integer >= 1",
        ),
        (
            (r"name = 'mlp\.gate\.bias'", "name = 'b'\noptional = 1"),
            "optional must be true, or the",
        ),
        (("[config]", "[observation]\nblock = 0\n[config]"), r"\[observation\] block must be"),
        (("summary", "scope = 'x'\nsummary"), "scope needs the regex groups"),
        (("summary", 'extends = "none"\nsummary'), "extends 'none', which does not exist"),
        (("summary", 'extends = "base"\nsummary'), "round in circles: base -> base"),
    ],
)
def test_mistakes_are_named(change: tuple[str, str], message: str) -> None:
    assert change[0] in BASE
    with pytest.raises(UnsupportedModelError, match=message):
        read_definitions({"base": BASE.replace(*change, 1)})


def test_patterns_of_which_python_warns_are_refused_even_where_nobody_sees_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="^here: Possible nested set"):
            compiled("[[]unseen", "here")


def test_a_model_type_belongs_to_one_family() -> None:
    with pytest.raises(UnsupportedModelError, match="both claim model_type 'base'"):
        read_definitions({"base": BASE, "other": BASE})


def installed(folder: Path, files: dict[str, str]) -> None:
    """A package of families as an installer leaves it."""
    (folder / "other_models").mkdir()
    for name, text in files.items():
        (folder / "other_models" / name).write_text(text)
    info = folder / "other_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[easyep.architectures]\nothers = other_models\n")


def test_another_package_brings_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = 'extends = "mixtral"\nmodel_types = ["child_of_mixtral"]\n'
    installed(tmp_path, {"base.toml": BASE, "child.toml": child, "__init__.py": ""})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "other_models", raising=False)
    found = load_definitions()
    assert found["base"].summary == "a base"
    assert found["child"].stacks == found["mixtral"].stacks


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mixtral.toml": BASE}, "there is a family 'mixtral' already"),
        ({"mine.toml": BASE.replace('"base"', '"mixtral"')}, "both claim model_type 'mixtral'"),
        ({"mine.toml": "summary = "}, "mine.toml"),
        ({"__init__.py": ""}, "no .toml file"),
    ],
)
def test_a_package_of_broken_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], message: str
) -> None:
    installed(tmp_path, files)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "other_models", raising=False)
    with pytest.raises(PluginError, match=message) as caught:
        load_definitions()
    assert str(caught.value).startswith("other-models announces the architectures 'others'")
