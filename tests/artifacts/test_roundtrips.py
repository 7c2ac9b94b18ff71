"""What is saved is read again, and what is broken says where."""

import json
import os
import stat
from dataclasses import replace

import numpy as np
import pytest

from easyep.artifacts import Observations, RoutedTokens, Scores, Selection
from easyep.artifacts.layer_sums import LayerSums
from easyep.artifacts.scores import DomainScores
from easyep.errors import ArtifactError, OutputError
from tests import records

SELECTION = Selection(records.MODEL, 8, 2, "balanced", "easy-ep", {1: (0, 3), 2: (5, 7)})


def test_selection(tmp_path):
    SELECTION.save(tmp_path / "s.json")
    assert Selection.load(tmp_path / "s.json") == SELECTION


def test_scores_keep_every_digit(tmp_path):
    scores = records.scores({1: [1 / 3, 2**-1074, 1e308], 4: [0, 1, np.pi]})
    scores.save(tmp_path / "s.json")
    loaded = Scores.load(tmp_path / "s.json")
    assert loaded.router == scores.router
    assert loaded.model == scores.model
    for layer, values in scores.layers.items():
        assert np.array_equal(loaded.layers[layer], values)


def test_observations(tmp_path):
    seen = records.observations(layers=(1, 2, 7))
    seen.save(tmp_path / "new" / "obs")
    loaded = Observations.load(tmp_path / "new" / "obs")
    assert (loaded.model, loaded.router, loaded.demos) == (seen.model, seen.router, seen.demos)
    assert list(loaded.layers) == [1, 2, 7]
    for layer, record in seen.layers.items():
        for name in RoutedTokens.__dataclass_fields__:
            found = getattr(loaded.layers[layer], name)
            assert found.dtype == getattr(record, name).dtype
            assert np.array_equal(found, getattr(record, name))
    assert not [p for p in (tmp_path / "new").iterdir() if p.name != "obs"]


def test_files_have_the_modes_of_others(tmp_path):
    SELECTION.save(tmp_path / "s.json")
    (tmp_path / "other").write_text("")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("s.json", "other")}
    assert len(modes) == 1


def test_observations_do_not_overwrite(tmp_path):
    (tmp_path / "obs").mkdir()
    (tmp_path / "obs" / "precious").write_text("")
    with pytest.raises(OutputError, match="obs"):
        records.observations().save(tmp_path / "obs")
    assert [p.name for p in tmp_path.rglob("*")] == ["obs", "precious"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema is 2"),
        ({"model": None}, "'model'"),
        ({"keep": "two"}, "'keep' must be of type int"),
        ({"keep": 3}, "keeps 2 experts, not 3"),
        ({"num_experts": 7}, "must be 0 to 6"),
        ({"groups": "even"}, "groups is 'even'"),
        ({"layers": {}}, "'layers' must be an object"),
        ({"layers": {"one": [1, 2]}}, "'one' is not a number"),
        ({"layers": {"1": [1, 2], "01": [1, 3]}}, "'01' is not a number"),
        ({"layers": {"1": [2, 1]}}, "layer 1: expert ids must be ascending"),
        ({"layers": {"1": [1, 1]}}, "ascending and distinct"),
        ({"layers": {"1": [1.0, 2]}}, "must be integers"),
        ({"layers": {"1": 3}}, "expected a list"),
    ],
)
def test_a_broken_selection_says_where(tmp_path, change, message):
    (tmp_path / "s.json").write_text(json.dumps({**SELECTION.to_json(), **change}))
    with pytest.raises(ArtifactError, match=rf"s\.json: .*{message}"):
        Selection.load(tmp_path / "s.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": None}, "schema is None"),
        ({"criterion": 1}, "'criterion'"),
        ({"router": {"num_experts": 2}}, "'router'"),
        ({"observations": {}}, "'observations'"),
        ({"layers": {"1": [1.0]}}, "router has 2 experts"),
        ({"layers": {"1": ["a", 2]}}, "must be numbers"),
        ({"layers": {"1": [float("nan"), 2]}}, "not a finite number"),
        ({"pairs": {"1": [[1.0], [2.0]]}}, "rows of a lower triangle"),
        ({"pairs": {"1": [[1.0], [-2.0, 1.0]]}}, "none below 0"),
        ({"pairs": {"2": [[1.0], [2.0, 1.0]]}}, "not those of 'layers'"),
        ({"pairs": {"1": [[1.0], [2.0, 1.0], [1.0, 1.0, 1.0]]}}, "router has 2 experts"),
        ({"peaks": {"1": [1.0, 2.0, 3.0]}}, "router has 2 experts"),
        ({"peaks": 5}, "must be an object"),
        ({"peaks": {"2": [1.0, 2.0]}}, "'peaks' has a layer"),
        ({"mix": "median"}, "mix is 'median'"),
        ({"domains": [{"layers": {"1": [1.0, 2.0]}}]}, "objects with a weight"),
        ({"domains": [{"weight": 1, "layers": {"2": [1.0, 2.0]}}]}, "the same layers"),
        *(
            ({"domains": [{"weight": weight, "layers": {"1": [1.0, 2.0]}}]}, "above 0")
            for weight in (0, -1, float("nan"), float("inf"), 10**400)
        ),
    ],
)
def test_broken_scores_say_where(tmp_path, change, message):
    value = {**records.scores({1: [1.0, 2.0]}).to_json(), **change}
    (tmp_path / "s.json").write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=message):
        Scores.load(tmp_path / "s.json")


def test_pairs_peaks_and_domains_come_back(tmp_path):
    rng = np.random.default_rng(0)
    half = rng.random((3, 3))
    plain = records.scores({1: [1 / 3, 2.0, 0.1], 4: [1.0, 1.0, 1.0]})
    scores = replace(
        plain,
        pairs={1: half + half.T, 4: np.eye(3)},
        peaks={1: rng.random(3), 4: rng.random(3)},
        mix="max-min",
        domains=(DomainScores(0.5, plain.layers), DomainScores(2, {1: half[0], 4: half[1]})),
    )
    scores.save(tmp_path / "s.json")
    found = Scores.load(tmp_path / "s.json")
    assert found.to_json() == scores.to_json()
    np.testing.assert_array_equal(found.pairs[1], scores.pairs[1])
    np.testing.assert_array_equal(found.domains[1].layers[4], half[1])
    assert [d.weight for d in found.domains] == [0.5, 2]


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\ud800"])
def test_files_that_are_no_json_object(tmp_path, text):
    (tmp_path / "s.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    for kind in (Selection, Scores):
        with pytest.raises(ArtifactError, match=r"s\.json"):
            kind.load(tmp_path / "s.json")
    with pytest.raises(ArtifactError, match="does not exist"):
        Selection.load(tmp_path / "other.json")


def test_broken_observations_say_where(tmp_path):
    seen = records.observations(layers=(1, 2))
    seen.save(tmp_path / "obs")
    (tmp_path / "obs" / "layer-00002.safetensors").write_bytes(b"\x00" * 7)
    loaded = Observations.load(tmp_path / "obs")
    assert len(loaded.layers[1]) == 40
    with pytest.raises(ArtifactError, match="layer-00002"):
        loaded.layers[2]
    with pytest.raises(ArtifactError, match=r"observations\.json does not exist"):
        Observations.load(tmp_path)


@pytest.mark.parametrize(
    "share", [-0.1, 1.1, float("nan"), pytest.param(10**400, id="no float"), "half"]
)
def test_mask_ratios_are_shares(tmp_path, share):
    records.observations().save(tmp_path / "obs")
    path = tmp_path / "obs" / "observations.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mask_ratios": [0.5, share]}))
    with pytest.raises(ArtifactError, match="'mask_ratios' must be"):
        Observations.load(tmp_path / "obs")


@pytest.mark.timeout(60)
def test_a_layer_is_not_read_from_a_pipe(tmp_path):
    records.observations(layers=(1,)).save(tmp_path / "obs")
    path = tmp_path / "obs" / "layer-00001.safetensors"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="not a regular file"):
        Observations.load(tmp_path / "obs").layers[1]


def test_half_a_character_comes_back(tmp_path):
    """JSON can say what no file can hold otherwise."""
    half = replace(SELECTION, criterion="\ud800")
    half.save(tmp_path / "s.json")
    assert Selection.load(tmp_path / "s.json") == half


@pytest.mark.parametrize(
    ("name", "wrong"), [("is_response", "int64"), ("residual_shift", "bool"), ("demo", "float32")]
)
def test_records_must_have_the_right_types(name, wrong):
    record = records.routed_tokens()
    with pytest.raises(ArtifactError, match=f"{name} has the type {wrong}"):
        replace(record, **{name: getattr(record, name).astype(wrong)})


@pytest.mark.parametrize("name", ["weights", "residual_shift", "demo"])
def test_records_must_have_the_right_shapes(name):
    record = records.routed_tokens()
    arrays = {n: getattr(record, n) for n in RoutedTokens.__dataclass_fields__}
    arrays[name] = arrays[name][1:]
    with pytest.raises(ArtifactError, match=name):
        RoutedTokens(**arrays)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("all/counted", np.array(3.0)),
        ("all/counted", np.array([np.nan])),
        ("all/counted", np.array([3], dtype=np.complex64)),
        ("all/peaks", np.zeros(7)),
        ("response/easy-ep", np.zeros(8)),
    ],
)
def test_sums_must_have_the_right_shapes(name, array):
    right = {
        "all/counted": np.ones(1),
        "all/peaks": np.ones(8),
        "response/easy-ep": np.ones((2, 8)),
    }
    LayerSums(right).check(8)
    with pytest.raises(ArtifactError, match=name):
        LayerSums(right | {name: array}).check(8)


def test_tokens_of_other_numbers_of_routes_are_no_one_record():
    parts = [records.routed_tokens(k=k) for k in (2, 3)]
    with pytest.raises(ArtifactError, match="routed to 2 experts here and to 3 there"):
        RoutedTokens.concatenate(parts)
    assert len(RoutedTokens.concatenate([parts[0], parts[0]])) == 80
