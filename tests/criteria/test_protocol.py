"""Criteria of one's own: functions, classes, and those of other packages."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import easyep
from easyep.criteria import (
    BUILT_IN,
    CRITERIA,
    Layer,
    RoutedCriterion,
    needs_record,
    scores_pairs,
)
from easyep.errors import ArtifactError, PluginError, UnknownNameError
from tests.criteria.test_family import by_loops
from tests.records import observations, routed_tokens


@pytest.fixture
def register(monkeypatch):
    """Registers a criterion for one test."""
    monkeypatch.setattr(CRITERIA, "_things", dict(CRITERIA._things))
    return CRITERIA.register


def test_a_function(register):
    @easyep.criterion("my-criterion", reduce="mean")
    def mine(tokens):
        """Squares."""
        return tokens.weights**2 * tokens.output_norms

    tokens = routed_tokens()
    assert "my-criterion" in CRITERIA
    assert CRITERIA["my-criterion"].summary == "Squares."
    np.testing.assert_allclose(
        CRITERIA["my-criterion"].score(tokens, Layer(0, 8)),
        by_loops(tokens, 8, 1, 2, 1, 0),
        rtol=1e-6,
    )


def test_a_class_or_an_object(register):
    class Most:
        """Written out."""

        summary = "The largest weight."

        def score(self, tokens, layer):
            found = np.zeros(layer.num_experts)
            np.maximum.at(found, tokens.expert_ids, tokens.weights)
            return found

    assert easyep.criterion("most")(Most) is Most
    easyep.criterion("most-again")(Most())
    one, other = (easyep.score(observations(), name) for name in ("most", "most-again"))
    assert [a.tolist() for a in one.layers.values()] == [a.tolist() for a in other.layers.values()]
    record = observations().layers[1]
    chosen = record.weights[record.expert_ids == 3]
    assert one.layers[1][3] == pytest.approx(chosen.max())
    with pytest.raises(ValueError, match="reduce is for functions"):
        easyep.criterion("mean-of-most", reduce="mean")(Most)
    with pytest.raises(TypeError, match="neither score"):
        easyep.criterion("nothing")(type("Nothing", (), {}))
    with pytest.raises(ArtifactError, match="criterion must be a text, not <"):
        easyep.score(observations(), criterion=Most())  # type: ignore[arg-type]


def test_what_is_no_criterion(register):
    for name in ("", "two words", 3, lambda tokens: tokens.weights):
        with pytest.raises(ValueError, match="a criterion's name is a word"):
            easyep.criterion(name)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is a criterion of easyep"):
        easyep.criterion("easy-ep")
    with pytest.raises(ValueError, match="reduce must be"):
        easyep.criterion("mine", reduce="max")  # type: ignore[arg-type]
    easyep.criterion("wrong-shape")(lambda tokens: tokens.residual_shift[:, None])
    with pytest.raises(ArtifactError, match=r"'wrong-shape' failed: .*\[40, 2\], not \[40, 1\]"):
        easyep.score(observations(), criterion="wrong-shape")


def test_what_goes_wrong_in_a_criterion_names_it(register):
    easyep.criterion("no-such-field")(lambda tokens: tokens.norms)
    with pytest.raises(ArtifactError, match=r"'no-such-field' failed: AttributeError: .*'norms'"):
        easyep.score(observations(), criterion="no-such-field")

    @easyep.criterion("undefined")
    def undefined(tokens):
        return np.where(tokens.expert_ids == 5, np.nan, 1.0)

    with pytest.raises(ArtifactError, match="'undefined' gave no finite number for expert 5 of"):
        easyep.score(observations(experts=8), criterion="undefined")


def test_pairs_that_are_not_symmetric(register):
    class Lopsided:
        summary = "Wrong."

        def score(self, tokens, layer):
            return np.triu(np.ones((layer.num_experts, layer.num_experts)))

    register("lopsided", Lopsided())
    with pytest.raises(ArtifactError, match="symmetric"):
        easyep.score(observations(), criterion="lopsided")


def test_an_unknown_criterion_suggests_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'easy-ep'"):
        CRITERIA["easyep"]


def test_every_criterion_says_what_it_is():
    assert set(CRITERIA) >= BUILT_IN
    assert all(CRITERIA[name].summary for name in BUILT_IN)


PACKAGE = """
    import easyep

    @easyep.criterion("by-function")
    def by_function(tokens):
        \"\"\"The number of the expert.\"\"\"
        return tokens.expert_ids

    class ByClass:
        summary = "The latest token."

        def score(self, tokens, layer):
            return [float((tokens.expert_ids == e).any()) for e in range(layer.num_experts)]
"""
ENTRY_POINTS = """
    [easyep.criteria]
    by-function = other_package:by_function
    by-class = other_package:ByClass
"""


def installed(folder, entry_points: str, module: str = PACKAGE):
    """A package as an installer leaves it: a module, and metadata beside it."""
    (folder / "other_package.py").write_text(textwrap.dedent(module))
    info = folder / "other_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
    return folder


def run(folder, *words):
    program = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); from easyep.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_another_package_brings_criteria(tmp_path):
    folder = installed(tmp_path, ENTRY_POINTS)
    listed = run(folder, "list", "criteria").stdout
    assert "The number of the expert." in listed
    assert "The latest token." in listed
    seen = observations(experts=8)
    seen.save(tmp_path / "obs")
    for name in ("by-function", "by-class"):
        file = tmp_path / f"{name}.json"
        words = ["score", "--observations", tmp_path / "obs", "--criterion", name]
        done = run(folder, *words, "--output", file)
        assert done.returncode == 0, done.stderr
        assert easyep.Scores.load(file).criterion == name
    routes = np.bincount(seen.layers[1].expert_ids.ravel(), minlength=8)
    np.testing.assert_array_equal(
        easyep.Scores.load(tmp_path / "by-function.json").layers[1], routes * np.arange(8)
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("other_package:PACKAGE", "neither score"),
        ("other_package:missing", "other-package announces the criterion 'broken'"),
        ("no_such_module:x", "No module named"),
    ],
)
def test_a_package_that_is_broken(tmp_path, target, message):
    folder = installed(tmp_path, f"[easyep.criteria]\nbroken = {target}\n", "PACKAGE = 1\n")
    done = run(folder, "list", "criteria")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_an_entry_point_leads_to_is_a_criterion(tmp_path, monkeypatch, register):
    """A class is called, an object is taken as it is, a decorated function is known by its name."""
    module = """
        import easyep

        class ByClass:
            summary = "All alike."

            def score_weights(self, weights, layer):
                return [1.0] * layer.num_experts

        AN_OBJECT = ByClass()

        @easyep.criterion("by-decorator")
        def decorated(tokens):
            return tokens.weights
    """
    names = {"by-class": "ByClass", "by-object": "AN_OBJECT", "by-decorator": "decorated"}
    lines = [f"{name} = criteria_of_mine:{thing}" for name, thing in names.items()]
    installed(tmp_path, "[easyep.criteria]\n" + "\n".join(lines), "")
    (tmp_path / "criteria_of_mine.py").write_text(textwrap.dedent(module))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "criteria_of_mine", raising=False)
    monkeypatch.setattr(CRITERIA, "_group", "easyep.criteria")
    assert CRITERIA["by-class"].summary == "All alike."
    assert CRITERIA["by-class"] is not CRITERIA["by-object"]
    assert CRITERIA["by-object"] is sys.modules["criteria_of_mine"].AN_OBJECT
    assert isinstance(CRITERIA["by-decorator"], RoutedCriterion)
    assert not needs_record("by-class")
    assert needs_record("by-decorator")


def test_an_entry_point_that_leads_to_a_plain_function_is_refused(tmp_path, monkeypatch, register):
    installed(
        tmp_path,
        "[easyep.criteria]\nplain = plain_function:plain\n",
        "",
    )
    (tmp_path / "plain_function.py").write_text("def plain(tokens): return tokens.weights\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(CRITERIA, "_group", "easyep.criteria")
    with pytest.raises(PluginError, match=r"needs the decorator easyep\.criterion"):
        CRITERIA["plain"]


def test_whether_a_criterion_needs_a_record_or_scores_pairs():
    assert [name for name in sorted(BUILT_IN) if not needs_record(name)] == [
        "aimer",
        "random",
        "router-norm",
    ]
    assert [name for name in sorted(BUILT_IN) if scores_pairs(name)] == ["hope"]
    for ask in (needs_record, scores_pairs):
        with pytest.raises(UnknownNameError):
            ask("easyep")


def test_a_route_of_weight_0_is_none():
    """A token that took one expert only counts once, and moves no mean."""
    tokens = routed_tokens(tokens=2, experts=3, k=2)
    tokens.expert_ids[:] = [[0, 1], [1, 2]]
    tokens.weights[:] = [[1, 0], [0.5, 0.5]]
    tokens.output_norms[:] = [[2, 8], [4, 6]]
    layer = Layer(0, 3)
    assert CRITERIA["frequency"].score(tokens, layer).tolist() == [1, 1, 1]
    assert CRITERIA["ean"].score(tokens, layer).tolist() == [2, 4, 6]
    assert CRITERIA["man"].score(tokens, layer).tolist() == [2, 4, 6]
    assert CRITERIA["hope"].score(tokens, layer).tolist() == [[4, 0, 0], [0, 4, 6], [0, 6, 9]]


def test_the_function_stays_as_it_is_and_its_first_line_is_the_summary(register):
    def mine(tokens):
        """Squares.

        And more that is not shown.
        """
        return tokens.weights**2

    assert easyep.criterion("mine")(mine) is mine
    assert CRITERIA["mine"].summary == "Squares."
    easyep.criterion("without-words")(lambda tokens: tokens.weights)
    assert CRITERIA["without-words"].summary == ""
