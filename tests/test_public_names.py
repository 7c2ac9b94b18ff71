"""The names that scripts rely on."""

import inspect as python_inspect
import re
import subprocess
import sys
from dataclasses import fields

import click
import numpy as np
import pytest

import easyep
from easyep import recipe
from easyep.cli import COMMANDS, app
from tests.records import observations


def test_every_public_name_is_there():
    assert sorted(easyep._HOME) == sorted(easyep.__all__)
    for name in easyep.__all__:
        assert getattr(easyep, name) is not None
        assert name in dir(easyep)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = easyep.no_such_name


def test_public_functions_say_what_they_do():
    for name in easyep.__all__:
        assert python_inspect.getdoc(getattr(easyep, name)), name


def test_observe_has_the_defaults_of_the_recipe():
    parameters = python_inspect.signature(easyep.observe).parameters
    for field in recipe.Recipe.__dataclass_fields__.values():
        if field.name in parameters and field.name not in ("model", "domain", "demos"):
            assert parameters[field.name].default == field.default


COMMON = {"as_json", "quiet", "debug", "verbose", "log_file"}
# Arguments that are further ones of an option, in other words.
WORDS = {"folder", "more"}


def rows(root) -> dict[str, tuple[str, str]]:
    """Command -> its function and what is different, as docs/python.md says."""
    page = (root / "docs" / "python.md").read_text()
    found = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.*)\|$", page, re.M)
    return {command: (function, otherwise) for command, function, otherwise in found}


def test_every_command_has_the_function_that_the_page_names(root):
    for_people = {"demos", "list", "completion"}
    assert set(rows(root)) | for_people == set(COMMANDS)
    for command, (function, otherwise) in rows(root).items():
        known = arguments(function)
        made = app.get_command(None, command)  # type: ignore[arg-type]
        assert made is not None
        for option in made.params:
            if option.name in COMMON | WORDS or option.name == "help":
                continue
            flag = option.opts[0]
            told = f"`{flag}`" in otherwise
            same = option.name in known and flag.lstrip("-").replace("-", "_") == option.name
            assert told or same, f"{command} {flag} is no argument of {function}"
            assert not (told and same), f"{command} {flag}: the page says too much"
            default = option.get_default(click.Context(made))
            own = known.get(option.name)
            if same and isinstance(default, (int, float, str)) and own is not None:
                assert default == own, f"{command} {flag}"


def arguments(function: str) -> dict:
    """The arguments of a public function, those of a recipe among them, with their defaults."""
    found = {
        name: None if each.default is each.empty else each.default
        for name, each in python_inspect.signature(getattr(easyep, function)).parameters.items()
    }
    of_recipe = {f.name: f.default for f in fields(recipe.Recipe)}
    return {**of_recipe, **found} if "choices" in found else found


def test_importing_easyep_imports_next_to_nothing():
    program = "import sys, easyep; print(*{'numpy', 'click', 'torch'} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_one_alone_will_do_where_a_list_is_asked_for(tmp_path):
    quick = {"limit": 2, "dtype": "float32", "device": "cpu"}
    alone, listed = (
        easyep.evaluate("demo", tasks, **quick)
        for tasks in ("easyep_demo_math", ["easyep_demo_math"])
    )
    assert alone.results == listed.results
    easyep.observe("demo", domain="math", n_demos=2, output=tmp_path / "obs")
    for path in (tmp_path / "obs", str(tmp_path / "obs")):
        study = {"samples": 1, "demonstrations": 1, "domains": "math", "keep": 8}
        in_lists = {"samples": 1, "demonstrations": [1], "domains": ["math"], "keep": [8]}
        assert easyep.stability(path, **study) == easyep.stability([path], **in_lists)
        bounds = easyep.predict("demo", "h100", observations=path, keep=8, batch_sizes=1)
        more = {"observations": [path], "keep": [8], "batch_sizes": [1]}
        assert bounds == easyep.predict("demo", "h100", **more)
    assert easyep.inspect("demo", 0.5) == easyep.inspect("demo", [0.5])
    summed = {"domain": "math", "n_demos": 2, "records": "none"}
    one = easyep.observe("demo", criteria="reap", **summed)
    assert one.sums is not None
    assert set(one.sums[1].criteria) == {"reap"}
    asked = {"batch_sizes": 1, "num_iters": 1, "num_iters_warmup": 0}
    found = easyep.bench("demo", lengths=(8, 2), request_rates=float("inf"), **asked)
    assert [(p.workload.input_len, p.workload.output_len) for p in found.points] == [(8, 2)]


@pytest.mark.parametrize(
    ("function", "wrong", "message"),
    [
        ("inspect", {"keep": "0.5"}, "keep must be a fraction"),
        ("predict", {"lengths": [(8, 4, 2)]}, "lengths must be pairs"),
        ("predict", {"lengths": [8]}, "lengths must be pairs"),
        ("bench", {"lengths": [(0, 4)]}, "lengths must be pairs"),
        ("bench", {"batch_sizes": "many"}, "batch_sizes must be a positive integer"),
        ("bench", {"request_rates": [0]}, "a request rate is above 0"),
        ("bench", {"request_rates": ["x"]}, "request_rates must be a number"),
        ("bench", {"lengths": 5}, "lengths must be pairs"),
        ("bench", {"num_iters": 0}, "num_iters must be a positive integer"),
        ("bench", {"num_iters": 1.5}, "num_iters must be a positive integer"),
        ("bench", {"num_iters_warmup": -1}, "num_iters_warmup must be an integer"),
        ("bench", {"memory_budget": "much"}, "memory_budget must be a size"),
        ("bench", {"memory_budget": float("nan")}, "memory_budget must be a size"),
        ("bench", {"against_settings": {"nosuch": 1}}, "unknown engine setting key 'nosuch'"),
        ("predict", {"lengths": None}, "lengths must be pairs"),
        ("predict", {"machine": None}, "machine must be a text"),
        ("predict", {"memory_budget": -1}, "memory_budget must be a size"),
        ("predict", {"cache_copies": 0}, "cache_copies must be above 0"),
        ("plan", {"domain": "math", "output": "a\0b"}, "output must be a text"),
        ("plan", {"domain": "math", "work_dir": "a\0b"}, "work_dir must be a text"),
        ("plan", {"domain": "math", "work_dir": ""}, "work_dir must be a text"),
        ("prune", {"domain": "math", "output": "o", "work_dir": 5}, "work_dir must be a text"),
        ("observe", {"domain": "math:2"}, "'math:2' has a weight, and nothing is mixed"),
        ("observe", {"demos": 5}, "must be a text"),
        ("compare", {"second": "demo", "domain": ["math:2"]}, "has a weight"),
        ("evaluate", {"work_dir": "a\0b"}, "work_dir must be a text"),
        ("evaluate", {"limit": 0}, "limit must be a positive integer"),
        ("evaluate", {"batch_size": 0}, "batch_size must be a positive integer"),
        ("evaluate", {"num_fewshot": -1}, "num_fewshot must be an integer of at least 0"),
        ("evaluate", {"gen_kwargs": "temperature=0"}, "gen_kwargs must be a mapping"),
        ("evaluate", {"selection": 3}, "expected Selection or where it was saved, not int"),
        ("compare", {"selection": 3, "domain": "math"}, "expected Selection or where"),
        ("bench", {"settings": {"dtype": "float32"}}, "settings must be EngineSettings, not dict"),
        ("predict", {"observations": [3]}, "expected Observations or where it was saved"),
        ("rewrite", {"selection": {1: [1]}, "output": "o"}, "expected Selection or where"),
        ("plan", {"output": 3}, "output must be a text"),
        ("evaluate", {"tasks": [3]}, "tasks must be a text"),
        ("evaluate", {"suites": "maths"}, "unknown suite 'maths'"),
    ],
)
def test_what_is_of_another_kind_is_told(function, wrong, message):
    with pytest.raises(easyep.EasyEPError, match=message):
        getattr(easyep, function)("demo", **wrong)


@pytest.mark.parametrize("model", [None, 5, "", "a\0b", ["demo"]])
def test_what_is_no_model_is_told(model, tmp_path):
    choices = {"domain": "math", "output": tmp_path / "out"}
    for call in (
        lambda: easyep.prune(model, **choices),
        lambda: easyep.plan(model, **choices),
        lambda: easyep.observe(model, **choices),
        lambda: easyep.rewrite(model, easyep.select(scores(), 4), tmp_path / "out"),
        lambda: easyep.verify(tmp_path, model) if model is not None else easyep.inspect(model),
        lambda: easyep.inspect(model),
        lambda: easyep.evaluate(model),
        lambda: easyep.compare(model, "demo", domain="math"),
        lambda: easyep.bench(model),
        lambda: easyep.predict(model, "h100"),
        lambda: easyep.score(model=model, criterion="random"),
        lambda: easyep.read_mask(tmp_path / "mask", model),
    ):
        with pytest.raises(easyep.EasyEPError):
            call()
    assert not list(tmp_path.iterdir())


def test_what_is_no_artifact_or_result_is_told(tmp_path):
    record = observations(experts=8)
    for call in (
        lambda: easyep.select(record),
        lambda: easyep.score(scores()),
        lambda: easyep.score(record, "random", seed=-1),
        lambda: easyep.score(record, seed="x"),
        lambda: easyep.differences(1, 2),
        lambda: easyep.read_mask([[1]], "demo"),
        lambda: easyep.run(None),
        lambda: easyep.run([]),
        lambda: easyep.verify(None),
        lambda: easyep.verify(tmp_path, jobs=0),
        lambda: easyep.report(output=tmp_path / "r.html"),
        lambda: easyep.select(scores(), 4, groups=None),
    ):
        with pytest.raises(easyep.EasyEPError):
            call()


def test_a_report_takes_a_list(pruned, tmp_path):
    one = easyep.report([pruned.path], output=tmp_path / "a.html")
    other = easyep.report(pruned.path, output=tmp_path / "b.html")
    assert one.figures == other.figures


def scores():
    return easyep.score(observations(experts=8), "reap")


@pytest.mark.parametrize(
    "wrong",
    [{"protect": 5.5}, {"protect": None}, {"forbid": [True]}, {"align": "8"}, {"keep": [4]}],
)
def test_what_is_no_choice_is_told(wrong):
    with pytest.raises(easyep.EasyEPError):
        easyep.select(scores(), **{"keep": 4, **wrong})


def test_numbers_of_numpy_are_numbers(tmp_path):
    record = observations(experts=8)
    weights = ([1, 2], np.array([1, 2]), np.array([1, 2], np.float32))
    found = [easyep.score([record, record], weights=each) for each in weights]
    assert len({each.layers[1].tobytes() for each in found}) == 1
    plans = [
        easyep.plan("demo", domain="math", keep=keep).keep
        for keep in (0.5, 16, np.float32(0.5), np.int64(16))
    ]
    assert set(plans) == {16}
    pairs = np.array([[8, 4]])
    bounds = [
        easyep.predict("demo", "h100", lengths=lengths, batch_sizes=sizes, memory_budget=budget)
        for lengths, sizes, budget in (
            ([(8, 4)], [1], 80_000_000_000),
            ([tuple(pairs[0])], np.array([1]), "80GB"),
            (tuple(pairs[0]), 1, 80e9),
        )
    ]
    assert bounds[0] == bounds[1] == bounds[2]
    (again,) = easyep.selection.nested(found[0], 4)
    assert again == easyep.select(found[0], 4)
