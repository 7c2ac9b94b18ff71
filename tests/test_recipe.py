"""Every choice of a run, checked when it is made."""

import pytest

from easyep.errors import ArtifactError, UnknownNameError
from easyep.recipe import Recipe, read_yaml


def test_text_and_sequences_are_the_same():
    assert Recipe("m", domain="math") == Recipe("m", domain=["math"])  # type: ignore[arg-type]


def test_weights_stand_in_order():
    recipe = Recipe("m", domain=("math", "code:0.5"), demos=("my.jsonl:2",))
    assert recipe.weights == [1.0, 0.5, 2.0]


def test_the_way_through_json():
    recipe = Recipe("m", domain=("math",), keep=16, groups="flatten")
    assert Recipe.from_mapping(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("key", "value", "suggestion"),
    [
        ("groups", "balance", "balanced"),
        ("mtp", "dropp", "drop"),
        ("tokens", "responses", "response"),
        ("dtype", "float", "float32"),
        ("runner", "auto1", "auto"),
        ("demo_order", "rand", "random"),
    ],
)
def test_unknown_choices(key, value, suggestion):
    with pytest.raises(UnknownNameError, match=f"did you mean .*{suggestion}"):
        Recipe("m", **{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_demos", 0), ("batch_size", 1.5), ("align", -1), ("max_length", 0), ("keep", "half")],
)
def test_wrong_numbers(key, value):
    with pytest.raises(ArtifactError, match=key):
        Recipe("m", **{key: value})


@pytest.mark.parametrize("runner", ["auto", "memory", "stream"])
def test_settings_for_another_runner(runner):
    with pytest.raises(ArtifactError, match=f"for the runner deepspeed, not {runner}"):
        Recipe("m", runner=runner, deepspeed_config="ds.json")


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [(7, 7), ("7", 7), ("5GB", 5 * 10**9), ("1.5 mb", 1_500_000), ("2GiB", 2 * 2**30), ("9B", 9)],
)
def test_sizes(text, nbytes):
    assert Recipe("m", max_shard_size=text).max_shard_size == nbytes


@pytest.mark.parametrize("text", [0, -1, True, 1.5, "", "GB", "5 XB", "-5GB", "0.5", "0.1B", None])
def test_wrong_sizes(text):
    with pytest.raises(ArtifactError, match="max_shard_size must be"):
        Recipe("m", max_shard_size=text)


def test_unknown_keys():
    with pytest.raises(UnknownNameError, match="did you mean 'domain'"):
        Recipe.from_mapping({"model": "demo", "domains": ["math"]})
    with pytest.raises(ArtifactError, match="needs 'model'"):
        Recipe.from_mapping({"keep": 0.5})


@pytest.mark.parametrize("text", ["- a", "a: [", "!!python/object/apply:os.getcwd []", ""])
def test_files_that_are_no_recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=r"recipe\.yaml"):
        read_yaml(path)
    with pytest.raises(ArtifactError, match="does not exist"):
        read_yaml(tmp_path / "other.yaml")


def test_a_key_that_stands_twice(tmp_path):
    """Whoever reads it sees the first, and the last would count."""
    path = tmp_path / "recipe.yaml"
    path.write_text("model: demo\ndomain: [math]\nmodel: other\n")
    with pytest.raises(ArtifactError, match="the key 'model' appears twice in one mapping"):
        read_yaml(path)


def test_a_number_that_no_float_can_hold() -> None:
    with pytest.raises(ArtifactError, match="mask_ratio must be a number"):
        Recipe.from_mapping({"model": "m", "mask_ratio": [10**400]})


@pytest.mark.parametrize("name", ["keep", "max_shard_size", "seed"])
def test_a_number_that_python_does_not_write_out(tmp_path, name):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: m\n{name}: 0x{'f' * 5000}\n")
    with pytest.raises(ArtifactError, match="a number has more than 1000 digits"):
        read_yaml(path)


@pytest.mark.parametrize("name", ["model", "demos", "criterion", "deepspeed_config"])
def test_texts_that_end_in_the_middle(name):
    with pytest.raises(ArtifactError, match=f"{name} must be a text"):
        Recipe.from_mapping({"model": "m", name: "a\0b"})


def test_experts_are_no_numbers_to_base_60(tmp_path):
    """As YAML 1.1 has it: 3:17 would be 197."""
    path = tmp_path / "recipe.yaml"
    path.write_text("{model: demo, protect: 3:17, forbid: [1:20, 4, 5-6], keep: 0.25, seed: 0x10}")
    found = Recipe.from_mapping(read_yaml(path))
    assert (found.protect, found.forbid) == (("3:17",), ("1:20", "4", "5-6"))
    assert (found.keep, found.seed) == (0.25, 16)
    path.write_text("{model: demo, keep: 8, seed: -0, domain: [.nan, 1_000, -.inf, 1.5e+3, 2026]}")
    value = read_yaml(path)
    assert value["domain"][1:] == [1000, float("-inf"), 1500.0, 2026]
    assert (value["keep"], value["seed"]) == (8, 0)
