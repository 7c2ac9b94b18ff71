"""Names that lead to things."""

import json
from importlib import metadata

import pytest

from easyep.errors import MissingDependencyError, PluginError, UnknownNameError
from easyep.registry import Places, Registry, unknown_name


def test_registered_things_are_found():
    registry: Registry[int] = Registry("number")
    registry.register("one", 1)
    assert registry["one"] == 1
    assert "one" in registry
    assert list(registry) == ["one"]


def test_the_message_names_the_closest_and_all():
    with pytest.raises(UnknownNameError) as error:
        raise unknown_name("fruit", "appel", ["pear", "apple"], "a hint")
    expected = "unknown fruit 'appel': did you mean 'apple'? (valid: apple, pear); a hint"
    assert str(error.value) == expected


def test_installed_packages_can_add_things(monkeypatch):
    class EntryPoint:
        name = "theirs"

        def load(self):
            return 7

    monkeypatch.setattr(metadata, "entry_points", lambda group: [EntryPoint()])
    registry: Registry[int] = Registry("number", entry_points="a.group")
    registry.register("ours", 1)
    assert registry["theirs"] == 7
    assert list(registry) == ["ours", "theirs"]


def test_what_an_installed_package_breaks_is_told_each_time(monkeypatch):
    class EntryPoint:
        name, value, dist = "theirs", "their.module:thing", None

        def load(self):
            raise ImportError("no module")

    monkeypatch.setattr(metadata, "entry_points", lambda group: [EntryPoint()])
    registry: Registry[int] = Registry("number", entry_points="a.group")
    registry.register("ours", 1)
    for _ in range(2):
        with pytest.raises(PluginError, match="announces the number 'theirs'"):
            list(registry)
    assert registry["ours"] == 1


def test_places_are_imported_when_asked_for():
    places = Places("dump")
    places.register("json", "json:dumps")
    assert places.load("json") is json.dumps


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("no_such_package.here:Mine", "No module named 'no_such_package'"),
        ("json:no_such", "module 'json' has no attribute 'no_such'"),
        ("json", "a place is 'module:attribute'"),
        ("", "a place is 'module:attribute'"),
    ],
)
def test_a_place_where_nothing_is(place, why):
    places = Places("dump")
    places.register("mine", place)
    with pytest.raises(PluginError, match=f"the dump 'mine' is registered as {place}.*{why}"):
        places.load("mine")


def test_what_a_module_says_itself_is_passed_on(tmp_path, monkeypatch):
    needy = tmp_path / "needy_runner.py"
    needy.write_text(
        "from easyep.errors import MissingDependencyError\n"
        "raise MissingDependencyError('it needs more')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    places = Places("dump")
    places.register("needy", "needy_runner:Mine")
    with pytest.raises(MissingDependencyError, match="^it needs more$"):
        places.load("needy")
