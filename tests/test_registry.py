"""Names that lead to things."""

from importlib import metadata

import pytest

from easyep.errors import PluginError, UnknownNameError
from easyep.registry import Registry, unknown_name


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
